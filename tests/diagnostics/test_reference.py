import math

import numpy as np
import pytest
from scipy.stats import norm

from ppl_models.diagnostics import compare, compare_with_psis, moment_checks, psis_weights
from ppl_models.errors import DataError

from .samples import matrix, normal_draws


def narrow(rng, num_draws=10_000, sd=0.75):
    """Draws of N(0, sd²) where the posterior is N(0, 1): k = 1 - sd² = 0.44."""
    x = sd * rng.normal(size=num_draws)
    return matrix(x[None, :, None]), norm.logpdf(x) - norm.logpdf(x, scale=sd)


def test_columns_are_those_of_compare():
    draws = normal_draws(np.random.default_rng(1), 1, 500)
    log_ratio = 0.1 * np.random.default_rng(2).normal(size=500)
    assert list(compare_with_psis(draws, log_ratio).columns) == list(compare(draws, draws).columns)


def test_equal_weights_leave_no_error():
    table = compare_with_psis(normal_draws(np.random.default_rng(3), 1, 500), np.zeros(500))
    np.testing.assert_allclose(table, 0.0, atol=1e-12)


def test_values_are_those_against_the_weighted_draws():
    draws, log_ratio = narrow(np.random.default_rng(4))
    row = compare_with_psis(draws, log_ratio).iloc[0]
    x, weights = draws["x"].to_numpy().ravel(), np.exp(psis_weights(log_ratio)[0])
    mean = weights @ x
    sd = math.sqrt(weights @ (x - mean) ** 2 / (1 - (weights**2).sum()))
    assert row["mean_error_sd"] == pytest.approx((x.mean() - mean) / sd, rel=1e-10)
    assert row["log_sd_ratio"] == pytest.approx(math.log(x.std(ddof=1) / sd), rel=1e-10)


@pytest.mark.statistical
def test_half_the_variance_is_seen_without_a_baseline():
    draws, log_ratio = narrow(np.random.default_rng(5))
    table = compare_with_psis(draws, log_ratio)
    assert abs(table["log_sd_ratio"].iloc[0] - math.log(0.75)) < 4 * table["log_sd_ratio_mcse"].iloc[0]
    checks = {check.name: check for check in moment_checks(table, "psis")}
    assert checks["sd"].passed is False
    assert checks["mean"].passed is True


@pytest.mark.statistical
def test_errors_are_the_spread_over_replicates():
    rng = np.random.default_rng(6)
    rows = [compare_with_psis(*narrow(rng, 4_000, 0.85)).iloc[0] for _ in range(200)]
    for column in ("mean_error_sd", "log_sd_ratio", "q05_error_sd", "q95_error_sd", "wasserstein_sd"):
        spread = np.std([row[column] for row in rows], ddof=1)
        reported = math.sqrt(np.mean([row[f"{column}_mcse"] ** 2 for row in rows]))
        # k = 0.28: the squared weights have heavy tails, and smoothing is not in the delta method
        assert abs(reported / spread - 1) < 4 / math.sqrt(2 * 199) + 0.1, column


@pytest.mark.statistical
def test_rate_of_false_alarms():
    """A guide 3 % too narrow is within every limit; none of 50 fits of four parameters may fail."""
    rng = np.random.default_rng(7)
    for _ in range(50):
        x = 0.97 * rng.normal(size=(4_000, 4))
        log_ratio = (norm.logpdf(x) - norm.logpdf(x, scale=0.97)).sum(axis=1)
        assert all(check.passed for check in moment_checks(compare_with_psis(matrix(x[None]), log_ratio), "psis"))


def test_wrong_input():
    draws = normal_draws(np.random.default_rng(8), 1, 500)
    with pytest.raises(DataError, match=r"needs \(500,\)"):
        compare_with_psis(draws, np.zeros(400))
    with pytest.raises(DataError, match="NaN"):
        compare_with_psis(draws, np.full(500, np.nan))
