"""The classifier two-sample test against a baseline."""

import math

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

from ppl_models.diagnostics import check_classifier, compare, moment_checks
from ppl_models.diagnostics.classifier import _auc, auc_limit
from ppl_models.errors import DataError

from . import faults
from .samples import matrix, normal_draws

FAULTS = (
    faults.half_width,
    faults.shifted_mean,
    faults.dropped_correlation,
    faults.missed_mode,
    faults.cut_tails,
    faults.dropped_funnel,
)


@pytest.mark.parametrize("fault", FAULTS)
def test_sees_planted_faults(fault):
    for seed in range(2):
        check = check_classifier(*fault(np.random.default_rng(seed)))
        assert check.passed is False
        assert check.value > check.limit


def test_sees_what_the_marginals_do_not_and_names_it():
    for fault in (faults.dropped_correlation, faults.dropped_funnel):
        fit, baseline = fault(np.random.default_rng(11))
        assert not any(check.passed is False for check in moment_checks(compare(fit, baseline), "baseline"))
        check = check_classifier(fit, baseline)
        assert "x[0]" in check.detail
        assert "x[1]" in check.detail


@pytest.mark.parametrize(("shift", "width"), [(0.5, 1.0), (0.0, 0.5)])
def test_auc_is_that_of_the_best_classifier(shift, width):
    """Of N(d, 1) and N(0, 1) it is Phi(d / sqrt 2), of N(0, s^2) and N(0, 1) 2/pi atan(1/s) for s < 1."""
    rng = np.random.default_rng(2)
    fit, baseline = shift + width * rng.normal(size=(1, 4_000, 1)), rng.normal(size=(4, 1_000, 1))
    best = norm.cdf(shift / math.sqrt(2)) if shift else 2 / math.pi * math.atan(1 / width)
    check = check_classifier(matrix(fit), matrix(baseline))
    assert check.value == pytest.approx(best, abs=4 * check.mcse)


def test_weighted_auc_is_exact():
    """Draws 1 and 3 of weights 1/4 and 3/4 against 1 and 2: ties count half."""
    found = _auc(np.array([1.0, 3.0]), np.array([0.25, 0.75]), np.array([2.0, 1.0]), np.array([0.5, 0.5]))
    assert found == pytest.approx(0.25 * 0.25 + 0.75, rel=1e-12)


def test_limit_is_that_of_a_mean_off_by_a_fifth():
    assert norm.cdf(0.2 / math.sqrt(2)) == pytest.approx(0.556, abs=5e-4)
    assert 2 / math.pi * math.atan(1.2) == pytest.approx(0.558, abs=5e-4)
    assert auc_limit(1) == pytest.approx(0.558, abs=5e-4)
    assert auc_limit(200) > auc_limit(30) > auc_limit(5)


@pytest.mark.statistical
@pytest.mark.parametrize(("correlation", "num_chains", "num_parameters"), [(0.0, 4, 5), (0.7, 4, 5), (0.7, 2, 2)])
def test_rate_of_false_alarms(correlation, num_chains, num_parameters):
    """Three errors and the limit at once: at most 0.13 %, so that none of 15 fails. Independent draws are resolved."""
    found = []
    for seed in range(15):
        rng = np.random.default_rng(100 + seed)
        fit, baseline = faults.right(rng, (num_chains, 1_000), correlation, num_parameters=num_parameters)
        found.append(check_classifier(matrix(fit), matrix(baseline), seed=seed))
    assert not any(check.passed is False for check in found)
    if correlation == 0.0:
        assert all(check.passed is True for check in found)
    errors = np.array([(check.value - 0.5) / check.mcse for check in found])
    # the root mean square of 15 standard normals is below 1.65 but for one time in a thousand
    assert math.sqrt(np.mean(errors**2)) < 1.65


def test_chains_that_disagree_are_no_baseline():
    """What differs between chains is not held against the fit."""
    rng = np.random.default_rng(3)
    fit, baseline = faults.right(rng)
    baseline += np.array([-1.0, 1.0, -1.0, 1.0])[:, None, None]
    assert check_classifier(matrix(1.4 * fit), matrix(baseline)).passed is not True
    assert check_classifier(matrix(fit), matrix(baseline)).passed is not True


def test_as_good_as_right_passes():
    """Every mean off by 0.03 sd and every sd by 3 %, in thirty parameters."""
    rng = np.random.default_rng(4)
    fit, baseline = faults.right(rng, correlation=0.3, num_parameters=30)
    signs = rng.choice([-1.0, 1.0], size=30)
    assert check_classifier(matrix(1.03 * fit + 0.03 * signs), matrix(baseline)).passed is True


def test_weights_repair_a_fit():
    rng = np.random.default_rng(5)
    x, noise = rng.normal(size=(10_000, 2)), rng.normal(size=(4, 1_000, 2))
    noise[..., 1] = 0.7 * noise[..., 0] + math.sqrt(0.51) * noise[..., 1]
    log_weights = multivariate_normal([0, 0], [[1, 0.7], [0.7, 1]]).logpdf(x) - norm.logpdf(x).sum(axis=1)
    assert check_classifier(matrix(x[None]), matrix(noise)).passed is False
    assert check_classifier(matrix(x[None]), matrix(noise), log_weights=log_weights).passed is True


def test_one_parameter_among_many_is_found():
    rng = np.random.default_rng(6)
    fit, baseline = rng.normal(size=(1, 2_000, 250)), rng.normal(size=(4, 500, 250))
    assert check_classifier(matrix(fit), matrix(baseline)).passed is True
    fit[..., 221] += 2.0
    check = check_classifier(matrix(fit), matrix(baseline))
    assert check.passed is False
    assert "x[221]" in check.detail


def test_constants_are_left_out_and_the_seed_is_kept():
    rng = np.random.default_rng(7)
    fit, baseline = faults.right(rng)
    fit[..., 2] = baseline[..., 2] = 7.0
    first, second = (check_classifier(matrix(fit), matrix(baseline), seed=1) for _ in range(2))
    assert first == second
    assert first.passed is not False
    constant = matrix(np.ones((4, 100, 2)))
    assert check_classifier(constant, constant).passed is None


def test_bad_input_is_never_a_pass():
    rng = np.random.default_rng(8)
    fit, baseline = faults.right(rng)
    broken = fit.copy()
    broken[0, 3, 1] = np.nan
    short = matrix(fit[:, :50])
    weights = np.zeros(4_000)
    weights[0] = np.nan
    for check in (
        check_classifier(matrix(broken), matrix(baseline)),
        check_classifier(short, matrix(baseline)),
        check_classifier(matrix(fit), matrix(baseline), log_weights=weights),
        check_classifier(matrix(fit), matrix(baseline), log_weights=np.linspace(0, 4e5, 4_000)),
    ):
        assert check.passed is None
        assert math.isnan(check.value)
        assert check.detail.startswith("not measured: ")
    with pytest.raises(DataError, match="needs the same"):
        check_classifier(matrix(fit[..., :2]), matrix(baseline))
    with pytest.raises(DataError, match="same variables"):
        check_classifier(normal_draws(rng), matrix(baseline))
    with pytest.raises(DataError, match="log_weights"):
        check_classifier(matrix(fit), matrix(baseline), log_weights=np.zeros(3))
