import math

import pytest
import torch
from matplotlib.figure import Figure

from ppl_models.errors import DataError, OptionError, UnknownNameError
from ppl_models.inference.monte_carlo.integrands import INTEGRANDS, known_expectation
from ppl_models.inference.monte_carlo.quasi import Quasi
from ppl_models.report.figures import efficiency_figure, to_svg
from ppl_models.workflow.method_comparison import compare_methods

FOUNDING, QUADRATIC = INTEGRANDS["founding"], INTEGRANDS["quadratic_form"]


@pytest.fixture(scope="module")
def comparison():
    return compare_methods(FOUNDING.f, FOUNDING.q, exact=FOUNDING.exact, num_draws=4_096, num_repeats=12)


def test_the_table_ranks_the_methods(comparison):
    table = comparison.table
    assert list(table.index) == ["plain", "antithetic", "control_variates", "stratified", "quasi"]
    assert table.efficiency["plain"] == 1.0
    assert table.rmse["quasi"] < 0.05 * table.rmse["plain"]
    # variances of 12 runs: a ratio is within a factor of 4.4 of the truth but once in a hundred
    assert 2.0 / 4.4 < table.variance_per_draw["antithetic"] / table.variance_per_draw["plain"] < 2.0 * 4.4
    assert table.slope["plain"] == pytest.approx(-0.5, abs=0.3)
    assert table.slope["quasi"] < -1.0
    assert (table.draws == 4_096).all()


def test_it_prints_a_row_for_each_method(comparison):
    lines = repr(comparison).splitlines()
    assert lines[0].startswith("Methods on one expectation, exact value 0.5773503, 12 runs of each")
    assert len({len(line) for line in lines[1:7]}) == 1
    assert "<table" in comparison._repr_html_()


def test_the_figure_has_a_line_for_each_method(comparison):
    figure = efficiency_figure(comparison, "a <title>")
    assert isinstance(figure, Figure)
    assert len(figure.axes[0].lines) == 6
    assert to_svg(figure).startswith(b"<?xml")


def test_a_method_that_is_exact_has_no_line_but_a_label():
    found = compare_methods(
        QUADRATIC.f,
        QUADRATIC.q,
        methods=["control_variates", "plain"],
        exact=QUADRATIC.exact,
        num_draws=1_024,
        num_repeats=3,
    )
    assert found.table.efficiency["control_variates"] == math.inf
    labels = [text.get_text() for text in efficiency_figure(found).legends[0].texts]
    assert "control variates: exact from 1,024" in labels


def test_labels_options_and_an_unknown_value():
    found = compare_methods(
        FOUNDING.f, FOUNDING.q, methods={"few": Quasi(8), "many": Quasi(64)}, num_draws=1_024, num_repeats=3
    )
    assert list(found.table.index) == ["few", "many"]
    assert found.table.rmse.isna().all()
    assert abs(found.reference - FOUNDING.exact) < 1e-2


def test_methods_that_q_does_not_allow_are_left_out_and_said():
    found = compare_methods(torch.square, torch.randn, num_draws=512, num_repeats=2)
    assert list(found.table.index) == ["plain"]
    assert "no known function of uniform numbers" in found.left_out["quasi"]
    assert "quasi left out" in repr(found)


def test_wrong_input():
    with pytest.raises(UnknownNameError):
        compare_methods(torch.square, torch.randn, methods=["kwasi"])
    with pytest.raises(OptionError, match="none of them can be used"):
        compare_methods(torch.square, torch.randn, methods=["quasi"], num_repeats=2)
    with pytest.raises(DataError, match="2 outputs, wanted one"):
        compare_methods(lambda z: torch.stack([z, z], 1), FOUNDING.q, num_draws=256, num_repeats=2)
    for options in ({"num_draws": 10}, {"num_repeats": 1}, {"exact": math.nan}, {"seed": -1}):
        with pytest.raises(OptionError):
            compare_methods(torch.square, FOUNDING.q, **options)


def test_known_expectations_by_name():
    assert len(INTEGRANDS) >= 8
    assert known_expectation("call_option").exact == pytest.approx(10.450584, abs=5e-7)
    assert known_expectation("founding").exact == pytest.approx(0.5773503, abs=5e-8)
    with pytest.raises(UnknownNameError, match="founding"):
        known_expectation("foundling")
