import math

import numpy as np
import pytest

from ppl_models.diagnostics import compare, moment_checks

from .samples import autoregressive, dataset, matrix, normal_draws


def checks_of(fit_tau, seed=1, num_draws=10_000, baseline=None):
    """Checks of a fit whose tau is given and whose theta are right."""
    rng = np.random.default_rng(seed)
    theta = rng.normal(size=(1, num_draws, 3))
    baseline = normal_draws(rng, 4, 1_000) if baseline is None else baseline
    table = compare(dataset(fit_tau(rng)[None, :], theta), baseline)
    return {check.name: check for check in moment_checks(table, "baseline")}


def test_right_fit_passes():
    checks = checks_of(lambda rng: rng.normal(size=10_000))
    assert list(checks) == ["mean", "sd", "5 % quantile", "95 % quantile", "Wasserstein"]
    assert all(check.passed is True and check.advice == "" for check in checks.values())


def student(rng):
    """Student t with 3 degrees of freedom scaled to unit sd: heavy tails about a narrow middle."""
    return rng.standard_t(3, size=10_000) / math.sqrt(3)


FAULTS = {
    "half the sd": (lambda rng: 0.5 * rng.normal(size=10_000), {"sd", "5 % quantile", "95 % quantile", "Wasserstein"}),
    "twice the sd": (lambda rng: 2 * rng.normal(size=10_000), {"sd", "5 % quantile", "95 % quantile", "Wasserstein"}),
    "shifted mean": (
        lambda rng: 0.5 + rng.normal(size=10_000),
        {"mean", "5 % quantile", "95 % quantile", "Wasserstein"},
    ),
    "skewed": (lambda rng: rng.exponential(size=10_000) - 1, {"5 % quantile", "Wasserstein"}),
    "short tails": (
        lambda rng: np.where(rng.random(10_000) < 0.5, -1.0, 1.0),
        {"5 % quantile", "95 % quantile", "Wasserstein"},
    ),
    "point": (lambda rng: np.zeros(10_000), {"sd", "5 % quantile", "95 % quantile", "Wasserstein"}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_fault_is_caught_and_named(fault):
    fit_tau, caught = FAULTS[fault]
    checks = checks_of(fit_tau)
    assert {name for name, check in checks.items() if check.passed is False} == caught
    for name in caught:
        assert "worst: tau" in checks[name].detail
        assert checks[name].advice


def test_missed_mode_is_caught():
    rng = np.random.default_rng(2)
    two_modes = np.where(rng.random((4, 1_000)) < 0.5, -4.0, 4.0) + rng.normal(size=(4, 1_000))
    baseline = dataset(two_modes, rng.normal(size=(4, 1_000, 3)))
    checks = checks_of(lambda rng: 4 + rng.normal(size=10_000), baseline=baseline)
    assert not any(checks[name].passed for name in ("mean", "sd", "Wasserstein"))


def test_heavy_tails_are_caught_where_the_middle_shrinks():
    """Student t of unit sd has 5 % quantiles at 1.36 instead of 1.64: 0.29 sd, on the limit, so plant one beyond it."""
    checks = checks_of(lambda rng: student(rng) * 0.8)
    assert checks["5 % quantile"].passed is False
    assert checks["95 % quantile"].passed is False


def test_value_is_the_worst_and_detail_has_the_sign():
    check = checks_of(lambda rng: 0.6 * rng.normal(size=10_000))["sd"]
    assert check.value == pytest.approx(-math.log(0.6), abs=4 * check.mcse)
    assert "tau (4" in check.detail
    assert "% too small" in check.detail


def test_error_larger_than_the_limit_is_unresolved():
    """120 draws give a mean an error of 0.13 sd: three of them do not fit in 0.2."""
    rng = np.random.default_rng(3)
    fit, baseline = matrix(rng.normal(size=(1, 120, 1))), matrix(rng.normal(size=(1, 120, 1)))
    check = moment_checks(compare(fit, baseline), "baseline")[0]
    assert check.value < check.limit
    assert check.passed is None
    assert check.advice == "more draws"


def test_large_fault_is_seen_through_large_errors():
    rng = np.random.default_rng(4)
    fit, baseline = matrix(3 + rng.normal(size=(1, 120, 1))), matrix(rng.normal(size=(1, 120, 1)))
    assert moment_checks(compare(fit, baseline), "baseline")[0].passed is False


def test_constants_are_left_out_but_not_alone():
    rng = np.random.default_rng(5)
    fit, baseline = rng.normal(size=(1, 5_000, 2)), rng.normal(size=(4, 1_000, 2))
    fit[..., 0] = baseline[..., 0] = 1.0
    checks = moment_checks(compare(matrix(fit), matrix(baseline)), "baseline")
    assert all(check.passed is True and "constants left out: 1" in check.detail for check in checks)
    alone = moment_checks(compare(matrix(fit[..., :1]), matrix(baseline[..., :1])), "baseline")
    assert all(check.passed is None for check in alone)


def test_baseline_that_does_not_vary_is_no_finding_and_no_pass():
    rng = np.random.default_rng(6)
    table = compare(matrix(rng.normal(size=(1, 500, 1))), matrix(np.ones((4, 500, 1))))
    assert all(check.passed is None for check in moment_checks(table, "baseline"))


@pytest.mark.statistical
@pytest.mark.parametrize(("correlation", "num_draws"), [(0.0, 1_000), (0.5, 1_000), (0.9, 2_000), (0.0, 60)])
def test_rate_of_false_alarms(correlation, num_draws):
    """Exact fits of 20 parameters, five moments: a failure is as rare as 0.27 % a moment, whatever the chain length."""
    rng = np.random.default_rng(7)
    failures, num_fits = 0, 15
    for _ in range(num_fits):
        baseline = matrix(autoregressive(rng, (4, num_draws, 20), correlation))
        checks = moment_checks(compare(matrix(rng.normal(size=(1, 4_000, 20))), baseline), "baseline")
        failures += any(check.passed is False for check in checks)
    assert failures <= 2  # the expected number is 5 x 0.0027 x 15 = 0.2 at most
