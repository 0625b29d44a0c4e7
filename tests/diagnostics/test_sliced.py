"""Max-sliced Wasserstein distance from a baseline."""

import math

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

from ppl_models.diagnostics import check_sliced
from ppl_models.diagnostics.sliced import Halves
from ppl_models.errors import DataError

from . import faults
from .samples import matrix, normal_draws


@pytest.mark.parametrize(
    "fault", [faults.half_width, faults.shifted_mean, faults.dropped_correlation, faults.missed_mode]
)
def test_sees_planted_faults(fault):
    for seed in range(3):
        check = check_sliced(*fault(np.random.default_rng(seed)))
        assert check.passed is False
        assert check.value > check.limit
        assert "x[0]" in check.detail


def test_distance_is_that_of_the_combination():
    """Without their correlation of 0.9 the difference of two is 1 / sqrt(0.1) times too wide, which is 1.73 sd.

    The ridge of 0.01 beside 0.1 takes 5 %, and the clipping of the scores 6 %.
    """
    check = check_sliced(*faults.dropped_correlation(np.random.default_rng(1)))
    exact = (math.sqrt(10) - 1) * math.sqrt(2 / math.pi)
    assert exact * 0.88 - 4 * check.mcse < check.value < exact + 4 * check.mcse


def test_quantiles_of_weighted_draws():
    """Weights 1 : 3 on two values put a quarter of the levels on the first."""
    values = np.array([[[0.0], [1.0]], [[1.0], [0.0]]])
    halves = Halves(values, np.array([[0.25, 0.75], [0.75, 0.25]]))
    for half in range(2):
        found = halves.quantiles(half, np.eye(1))[:, 0]
        assert found.tolist() == [0.0] * 25 + [1.0] * 75
    assert Halves(values).quantiles(0, np.eye(1))[:, 0].tolist() == [0.0] * 50 + [1.0] * 50


@pytest.mark.statistical
@pytest.mark.parametrize(
    ("correlation", "num_chains", "num_parameters"), [(0.0, 4, 5), (0.8, 4, 5), (0.7, 2, 2), (0.5, 1, 10)]
)
def test_rate_of_false_alarms(correlation, num_chains, num_parameters):
    """Beyond the limit and three errors by chance in under 0.3 %: none of 25 fails; most are resolved."""
    found = []
    for seed in range(25):
        rng = np.random.default_rng(200 + seed)
        shape = (num_chains, 4_000 // num_chains)
        fit, baseline = faults.right(rng, shape, correlation, num_parameters=num_parameters)
        found.append(check_sliced(matrix(fit), matrix(baseline), seed=seed))
    assert not any(check.passed is False for check in found)
    assert sum(check.passed is True for check in found) >= 22
    assert sum(check.value > 3 * check.mcse for check in found) <= 2


def test_dependence_that_no_combination_shows_is_not_seen():
    """What this check is blind to, and the classifier is not."""
    assert check_sliced(*faults.dropped_funnel(np.random.default_rng(2))).passed is True


def test_repeated_parameters_are_no_finding():
    rng = np.random.default_rng(3)
    fit, baseline = (np.concatenate([x, 3 + 2 * x, np.ones_like(x[..., :1])], axis=-1) for x in faults.right(rng))
    assert check_sliced(matrix(fit), matrix(baseline)).passed is True


def test_weights_repair_a_fit():
    rng = np.random.default_rng(5)
    x, noise = rng.normal(size=(10_000, 2)), rng.normal(size=(4, 1_000, 2))
    noise[..., 1] = 0.8 * noise[..., 0] + 0.6 * noise[..., 1]
    log_weights = multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]]).logpdf(x) - norm.logpdf(x).sum(axis=1)
    assert check_sliced(matrix(x[None]), matrix(noise)).passed is False
    assert check_sliced(matrix(x[None]), matrix(noise), log_weights=log_weights).passed is True


def test_bad_input_is_never_a_pass():
    rng = np.random.default_rng(8)
    fit, baseline = faults.right(rng)
    broken = baseline.copy()
    broken[0, 3, 1] = np.inf
    constant = matrix(np.ones((4, 100, 2)))
    for check in (
        check_sliced(matrix(fit), matrix(broken)),
        check_sliced(matrix(fit), matrix(baseline[:, :10])),
        check_sliced(constant, constant),
        check_sliced(matrix(fit), matrix(baseline), log_weights=np.full(4_000, np.inf)),
    ):
        assert check.passed is None
        assert math.isnan(check.value)
    with pytest.raises(DataError, match="same variables"):
        check_sliced(normal_draws(rng), matrix(baseline))
