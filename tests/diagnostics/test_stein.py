import math

import numpy as np
import pytest
from scipy.stats import binom

from ppl_models.diagnostics import check_stein, stein_discrepancy
from ppl_models.errors import DataError, OptionError
from tests.diagnostics import densities


def by_hand(points, scores):
    num_draws, dim = points.shape
    total = np.zeros(dim)
    for i in range(num_draws):
        for j in set(range(num_draws)) - {i}:
            x, y, s, r = points[i], points[j], scores[i], scores[j]
            t = 1.0 + ((x - y) ** 2).sum() / dim
            total += s * r * t**-0.5 + (s - r) * (x - y) / dim * t**-1.5 + t**-1.5 / dim
            total -= 3.0 * (x - y) ** 2 / dim**2 * t**-2.5
    return total / (num_draws * (num_draws - 1))


@pytest.mark.parametrize("dim", [1, 3])
def test_the_statistic_is_the_mean_of_the_stein_kernel_over_pairs(dim):
    points = np.random.default_rng(0).normal(size=(30, dim))
    found = stein_discrepancy(points, -(points**3), num_bootstrap=2)
    expected = by_hand(points, -(points**3))
    np.testing.assert_allclose(found.by_coordinate, expected, rtol=1e-10)
    assert found.value == pytest.approx(expected.sum(), rel=1e-10)


def test_blocks_do_not_matter(monkeypatch):
    points, scores = densities.gumbel(np.random.default_rng(0), 300, 2)
    whole = stein_discrepancy(points, scores, num_bootstrap=20)
    monkeypatch.setattr("ppl_models.diagnostics.stein.BLOCK", 7)
    parts = stein_discrepancy(points, scores, num_bootstrap=20)
    np.testing.assert_allclose(whole.null, parts.null, rtol=1e-9)
    np.testing.assert_allclose(whole.by_coordinate, parts.by_coordinate, rtol=1e-9)


@pytest.mark.statistical
@pytest.mark.parametrize(("density", "dim"), [(densities.normal, 1), (densities.normal, 10), (densities.banana, 2)])
def test_false_alarms_of_exact_draws_come_at_the_stated_rate(density, dim):
    num_seeds, level = 150, 0.05
    alarms = 0
    for seed in range(num_seeds):
        draws, scores = density(np.random.default_rng(seed), 200, dim)
        alarms += check_stein(draws, scores, level=level, num_bootstrap=200, seed=seed).passed is False
    assert alarms <= binom.isf(1e-4, num_seeds, level)


def faults():
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(1_000, 3))
    half, shifted, student = draws * [1.0, 0.5, 1.0], draws + np.array([0.0, 0.3, 0.0]), draws * [1.0, 1.5, 1.0]
    narrow = draws[:, :2] * math.sqrt(1 - 0.8**2)
    return {
        "half width": (half, -half),
        "shifted mean": (shifted, -shifted),
        "heavy tails cut": (
            student,
            np.c_[-student[:, 0], -4 * student[:, 1] / (3 + student[:, 1] ** 2), -student[:, 2]],
        ),
        "dropped correlation": (narrow, -narrow @ np.linalg.inv([[1.0, 0.8], [0.8, 1.0]])),
    }


@pytest.mark.parametrize("fault", ["half width", "shifted mean", "heavy tails cut", "dropped correlation"])
def test_planted_faults_fail(fault):
    check = check_stein(*faults()[fault])
    assert check.passed is False
    assert check.value > check.limit
    assert fault == "dropped correlation" or "largest share: x[1]" in check.detail


def test_a_missed_mode_is_not_seen():
    draws = np.random.default_rng(0).normal(size=(1_000, 1)) - 5.0
    assert check_stein(draws, -draws + 5.0 * np.tanh(5.0 * draws)).passed is True


def test_few_draws_are_scaled_and_many_whitened():
    draws, scores = densities.normal(np.random.default_rng(0), 250, 30)
    assert "scaled by their sds" in check_stein(draws, scores).detail
    assert "whitened" in check_stein(draws[:, :5], scores[:, :5]).detail


def test_what_cannot_be_measured_is_no_pass():
    draws, scores = densities.normal(np.random.default_rng(0), 300, 2)
    missing = scores.copy()
    missing[:10] = np.nan
    constant = draws * [1.0, 0.0]
    for points, gradients in ((draws[:100], scores[:100]), (draws, missing), (constant, scores)):
        check = check_stein(points, gradients)
        assert check.passed is None
        assert math.isnan(check.value)
        assert check.detail.startswith("not measured: ")


def test_wrong_input_is_an_error():
    draws, scores = densities.normal(np.random.default_rng(0), 300, 2)
    with pytest.raises(DataError):
        check_stein(draws, scores[:, :1])
    with pytest.raises(DataError):
        check_stein(draws, scores, ["a"])
    with pytest.raises(OptionError):
        check_stein(draws, scores, level=0.001, num_bootstrap=500)
    with pytest.raises(OptionError):
        check_stein(draws, scores, num_draws=50)
