"""95 % intervals cover in 93 to 97 % of independent runs: that is beyond three errors of 600 runs of a right method."""

import math

import numpy as np
import pytest
import torch
from torch import distributions as dist

from ppl_models.inference.intervals import interval_of
from ppl_models.inference.monte_carlo.integrands import INTEGRANDS
from tests.inference.monte_carlo.running import covers, estimate, many_runs

FOUNDING = INTEGRANDS["founding"]
BAND = (0.93, 0.97)


def side_by_side(num_runs):
    """As many independent runs in one call as there are outputs."""
    return dist.Normal(torch.zeros(num_runs), torch.ones(num_runs))


@pytest.mark.statistical
@pytest.mark.parametrize("name", ["founding", "exponential"])
@pytest.mark.parametrize("method", ["plain", "antithetic"])
def test_plain_and_antithetic(method, name):
    known = INTEGRANDS[name]
    found = estimate(method, known.f, side_by_side(2_000), 1_000 if name == "founding" else 4_000)
    assert BAND[0] <= covers(found, known.exact).mean() <= BAND[1]


@pytest.mark.statistical
def test_an_error_bar_of_half_the_size_would_be_seen():
    found = estimate("plain", FOUNDING.f, side_by_side(2_000), 1_000)
    low, high = interval_of(found.value, 0.5 * found.standard_error, found.degrees_of_freedom, 0.95)
    assert ((low <= FOUNDING.exact) & (high >= FOUNDING.exact)).mean() < 0.8


@pytest.mark.statistical
@pytest.mark.parametrize(
    ("method", "num_draws", "options"),
    [
        ("control_variates", 400, {}),
        ("stratified", 256, {"num_strata": 8}),
        ("stratified", 256, {"num_strata": 128}),
        ("stratified", 512, {"num_strata": 16, "allocation": "neyman"}),
    ],
)
def test_methods_that_run_one_by_one(method, num_draws, options):
    found = many_runs(method, FOUNDING.f, FOUNDING.q, num_draws, 600, **options)
    assert BAND[0] <= np.mean([covers(each, FOUNDING.exact) for each in found]) <= BAND[1]


@pytest.mark.statistical
@pytest.mark.parametrize("num_points", [64])
def test_quasi(num_points):
    """One run of many scramblings is many runs of 32."""
    num_runs = 600
    (found,) = many_runs("quasi", FOUNDING.f, FOUNDING.q, num_points * 32 * num_runs, 1, num_replicates=32 * num_runs)
    means = found.evidence["replicates"].reshape(num_runs, 32)
    error = means.std(axis=1, ddof=1) / math.sqrt(32)
    low, high = interval_of(means.mean(1), error, 31, 0.95)
    assert BAND[0] <= ((low <= FOUNDING.exact) & (FOUNDING.exact <= high)).mean() <= BAND[1]


@pytest.mark.statistical
@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["call_option", "exponential"])
@pytest.mark.parametrize(
    ("method", "num_draws"), [("control_variates", 2_000), ("stratified", 4_096), ("quasi", 4_096)]
)
def test_unbounded_integrands(name, method, num_draws):
    """Their errors come from the few most extreme draws and are skewed: 92 to 97 %, or most runs say that they are."""
    known = INTEGRANDS[name]
    found = many_runs(method, known.f, known.q, num_draws, 1_000)
    coverage = np.mean([covers(each, known.exact) for each in found])
    warned = np.mean([not all(check.passed for check in each.checks) for each in found])
    assert coverage <= 0.97
    assert coverage >= 0.92 or warned > 0.5
