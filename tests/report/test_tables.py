import math

import pandas as pd
import pytest
from rich.console import Console

from ppl_models import Check
from ppl_models.report import checks_table, summary_table, verdict_table
from ppl_models.report.tables import elbo_text, value_text


def printed(table):
    console = Console(width=200)
    with console.capture() as captured:
        console.print(table)
    return captured.get()


def test_verdict_table_has_a_row_for_each_guide(evidence):
    text = printed(verdict_table(evidence, title="eight schools", failures={"laplace": "no mode [here]"}))
    for word in ("eight schools", "normal", "delta", "reject", "tau", "laplace", "no mode [here]", "not fitted"):
        assert word in text


def test_guides_can_be_sorted_by_elbo_and_those_without_one_come_last(evidence):
    text = printed(verdict_table(tuple(reversed(evidence)), sort_by_elbo=True))
    assert text.index("normal") < text.index("delta")


def test_checks_table_shows_the_evidence(judged):
    verdict = judged.pairs["normal"][1]
    text = printed(checks_table(verdict))
    assert all(check.name in text for check in verdict.checks)


def test_summary_table_says_what_it_leaves_out():
    frame = pd.DataFrame({"mean": range(40)}, index=[f"beta[{i}]" for i in range(40)])
    text = printed(summary_table(frame, num_rows=5))
    assert "beta[4]" in text
    assert "beta[5]" not in text
    assert "the first 5 of 40 parameters" in " ".join(text.split())


@pytest.mark.parametrize(
    ("elbo", "text"),
    [((-31.59163, 0.0089), "-31.5916 ± 0.0089"), ((-1234.5, 12.0), "-1,234 ± 12"), ((-2.0, 0.0), "-2.00")],
)
def test_elbo_is_rounded_to_its_error(elbo, text):
    assert elbo_text(elbo) == text


def test_elbo_that_is_not_known():
    assert elbo_text((math.nan, math.nan)) == "-"
    assert elbo_text((-math.inf, math.nan)) == "-"


@pytest.mark.parametrize(
    ("value", "mcse", "text"),
    [(1.0026, math.nan, "1.003"), (2187.3, math.nan, "2,187"), (3.0, math.nan, "3"), (0.574, 0.088, "0.574 ± 0.088")],
)
def test_values_of_checks_are_readable(value, mcse, text):
    assert value_text(Check("name", value, 1.0, True, "", mcse)) == text


def test_value_that_was_not_measured():
    assert value_text(Check("name", math.nan, 1.0, None, "")) == "not measured"
