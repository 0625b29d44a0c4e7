"""The checks of q(z | x), and the verdict, on audits with planted faults."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ppl_models.checks import Check
from ppl_models.diagnostics import active_units, khat_by_datum
from ppl_models.workflow.audit.checking import BRACKET, CHAINS, ORDER
from ppl_models.workflow.audit.gaps import settled
from ppl_models.workflow.audit.judging import GAPS, moment_checks, verdict
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
    table = pd.DataFrame({"khat": np.zeros(100), "elbo": np.zeros(100)})
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
    assert np.isnan(khat_by_datum(rounded)).any()
    eps = float(np.finfo(np.float32).eps)
    assert (khat_by_datum(settled(rounded, eps)) == 0.0).all()
    spread = rounded + 0.01 * np.random.default_rng(3).normal(size=(2_000, 4))
    assert (settled(spread, eps) == spread).all()
