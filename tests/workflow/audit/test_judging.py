"""The checks of q(z | x), and the verdict, on audits with planted faults."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ppl_models.checks import Check
from ppl_models.diagnostics import active_units, khat_by_datum
from ppl_models.diagnostics.pareto_columns import khat_columns
from ppl_models.workflow.audit.checking import BRACKET, CHAINS, ORDER
from ppl_models.workflow.audit.gaps import settled
from ppl_models.workflow.audit.judging import GAPS, gap_limit, khat_check, moment_checks, verdict
from ppl_models.workflow.audit.rows_table import weights_table
from tests.workflow.audit.audited import audited

NUM_ROWS, NUM_UNITS = 40, 10


def with_moments(mean_error, log_ratio, error=0.03):
    """Checks of an audit of 40 rows and ten units whose moments are off by so much, by unit."""
    noise = error * np.random.default_rng(1).normal(size=(2, NUM_ROWS, NUM_UNITS))
    errors = np.full((NUM_ROWS, NUM_UNITS), error)
    moments = replace(
        audited().moments,
        mean_error_sd=mean_error + noise[0],
        mean_error_sd_error=errors,
        log_sd_ratio=log_ratio + noise[1],
        log_sd_ratio_error=errors,
    )
    units = tuple(f"z[{unit}]" for unit in range(NUM_UNITS))
    found = replace(audited(), moments=moments, units=units, reliable=np.ones(NUM_ROWS, bool))
    return moment_checks(found, range(NUM_ROWS))


def test_exact_moments_pass():
    assert [check.passed for check in with_moments(np.zeros(NUM_UNITS), np.zeros(NUM_UNITS))] == [True, True]


@pytest.mark.parametrize("place", [0, 7])
def test_one_unit_of_ten_is_not_hidden_by_the_others(place):
    fault = np.zeros(NUM_UNITS)
    fault[place] = 0.5
    means, sds = with_moments(fault, -fault)
    assert means.passed is False
    assert sds.passed is False
    assert means.value == pytest.approx(0.5, abs=0.02)
    assert f"`z[{place}]`" in means.detail


def judged(health):
    names = (*GAPS, "k-hat by datum", "means against MCMC", "sds against MCMC", "SBC of the encoder")
    checks = [Check(name, 0.0, 1.0, True, "") for name in names]
    units = active_units(np.random.default_rng(0).normal(size=(50, 2)), np.full((50, 2), 0.1))
    table = pd.DataFrame({"khat": np.zeros(100), "elbo": np.zeros(100), "relative_ess": np.full(100, 0.9)})
    return verdict(units, table, checks, health, 2_000)[0]


@pytest.mark.parametrize("name", [CHAINS, ORDER, BRACKET])
def test_no_trust_where_the_audit_itself_fails(name):
    assert judged([Check(name, 30.0, 1.0, True, "")]) == "trust"
    assert judged([Check(name, 30.0, 1.0, False, "")]) == "correct"


def test_a_few_rows_without_mcmc_leave_the_others_to_judge_by():
    assert judged([Check(CHAINS, 2.0, 0.0, False, "")]) == "trust"


def test_rounding_in_single_precision_is_no_tail():
    exact = -7.0 * np.ones((2_000, 4)) + 3e-7 * np.random.default_rng(2).normal(size=(2_000, 4))
    rounded = exact.astype(np.float32).astype(float)
    assert np.isnan(khat_columns(rounded)).any()
    eps = float(np.finfo(np.float32).eps)
    assert (khat_by_datum(settled(rounded, eps)) == 0.0).all()
    spread = rounded + 0.01 * np.random.default_rng(3).normal(size=(2_000, 4))
    assert (settled(spread, eps) == spread).all()


def weighed(log_weights, gap=None, error=0.001):
    """The check of k-hat and the verdict for two units, from log weights (draw, row) and perhaps each row's gap."""
    table = weights_table(log_weights, (1,), range(log_weights.shape[1]))
    gaps = Check(GAPS[0], np.nan, gap_limit(2), None, "")
    if gap is not None:
        table["inference_gap"], table["inference_gap_se"] = gap, error
        gaps = Check(GAPS[0], float(np.mean(gap)), gap_limit(2), bool(np.mean(gap) <= gap_limit(2)), "")
    khat = khat_check(table, len(log_weights), gap_limit(2))
    units = active_units(np.random.default_rng(0).normal(size=(50, 2)), np.full((50, 2), 0.1))
    return khat, *verdict(units, table, (khat, gaps), (), len(log_weights))


RNG = np.random.default_rng(7)
CUBES = RNG.normal(size=(2_000, 30)) ** 3
NEARLY, NARROW = 0.01 * CUBES, CUBES
"""The same shape on two scales: effective shares of 99.8 %, and of a few draws."""


def test_nearly_constant_weights_do_not_reject_though_their_tail_is_heavy():
    assert np.median(khat_columns(NEARLY)) > 0.3
    khat, word, _ = weighed(NEARLY, 0.002)
    assert khat.passed is True
    assert "30 of 30 have nearly constant weights" in khat.detail
    assert word == "trust"
    assert weighed(NEARLY)[0].passed is True


def test_heavy_weights_are_rejected_where_the_gap_fails_or_was_not_measured():
    for found in (weighed(NARROW), weighed(NARROW, 0.9)):
        assert found[0].passed is False
        assert found[1] == "reject"


def test_heavy_weights_are_not_needed_where_the_gap_is_surely_small():
    khat, word, _ = weighed(NARROW, 0.002)
    assert khat.passed is True
    assert "gap surely below 0.04 nats" in khat.detail
    assert word == "trust"
    khat, word, reasons = weighed(NARROW, 0.002, error=0.02)
    assert khat.passed is False  # the gap may as well be large
    assert word == "correct"
    assert "30 of 30 rows have weights beyond the limit" in " ".join(reasons)


def test_one_large_weight_among_constant_ones_is_seen():
    planted = 0.001 * CUBES
    planted[5, 3] = np.log(100.0)
    found = weighed(planted)[0]
    assert "29 of 30 have nearly constant weights" in found.detail
    assert found.value != 0.0


def test_headline_and_table_agree_on_what_chance_gives():
    ratios = np.random.default_rng(6).exponential(0.4, (400, 100))
    khat, word, reasons = weighed(ratios)
    assert (khat.passed, word) == (None, "correct")
    assert "no more than chance gives: not resolved, raise num_guide_draws" in " ".join(reasons)
    assert "use MCMC" not in " ".join(reasons)
