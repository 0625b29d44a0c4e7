import math

import numpy as np
import pytest

from ppl_models.diagnostics import active_units, active_units_of_draws
from ppl_models.diagnostics.active_units import MIN_ROWS
from ppl_models.errors import DataError

Z = 4.0


def linear_posterior(num_rows, weights, seed):
    """Means and variances of z | x for z ~ N(0, 1), x = w z + N(0, 1), one unit for each weight."""
    rng = np.random.default_rng(seed)
    weights = np.asarray(weights)
    z = rng.normal(size=(num_rows, len(weights)))
    x = z * weights + rng.normal(size=z.shape)
    variance = 1.0 / (1.0 + weights**2)
    return x * weights * variance, np.broadcast_to(variance, z.shape)


def test_linear_normal_model_has_its_closed_form():
    """The variance of the mean is 1 - the variance of q, and the KL averages to the mutual information."""
    weights = np.array([2.0, 0.5, 0.05, 0.0])
    found = active_units(*linear_posterior(20_000, weights, 1))
    wanted = weights**2 / (1.0 + weights**2)
    assert (np.abs(found.variance - wanted) <= Z * found.error + 1e-12).all()
    assert (np.abs(found.kl - 0.5 * np.log1p(weights**2)) <= Z * found.kl_error + 1e-12).all()
    assert found.active.tolist() == [True, True, False, False]
    assert found.collapse == "some"
    assert found.collapsed == ("z[2]", "z[3]")
    assert found.check.passed is True
    assert "collapsed: z[2], z[3]" in found.check.detail
    assert found.table.index[0] == "z[0]"


def test_draws_agree_with_moments_without_their_own_noise():
    """A hundred draws of a collapsed unit put a variance of 0.01 into its means: it must not count as active."""
    weights = np.array([1.0, 0.0])
    means, variances = linear_posterior(2_000, weights, 2)
    draws = means + np.sqrt(variances) * np.random.default_rng(3).normal(size=(100, *means.shape))
    exact, found = active_units(means, variances), active_units_of_draws(draws)
    assert draws.mean(axis=0)[:, 1].var() > 0.9 * found.limit
    assert found.active.tolist() == [True, False]
    assert (np.abs(found.variance - exact.variance) < Z * found.error).all()
    # KLs differ by the noise of S draws alone, whose variance per row is about (m^2 + s^2) s^2 / S + 1 / (2 S).
    noise = math.sqrt((2.0 + 0.5) / 100 / 2_000)
    assert (np.abs(found.kl - exact.kl) < Z * noise).all()


def test_collapsed_fit_is_reported():
    found = active_units(*linear_posterior(500, [0.0, 0.01], 4))
    assert found.collapse == "all"
    assert found.check.passed is False
    assert "all 2 units collapsed" in found.check.detail
    assert found.check.advice
    assert "collapsed: all" in repr(found)


def test_one_active_unit_is_no_collapse():
    assert active_units(*linear_posterior(500, [1.0], 5)).collapse == "none"


def test_unit_away_from_its_prior_pays_and_tells_nothing():
    found = active_units(np.full((50, 1), 2.0), np.ones((50, 1)))
    assert found.collapse == "all"
    assert found.kl[0] == pytest.approx(2.0)


def test_units_are_measured_in_their_prior():
    means, variances = linear_posterior(500, [1.0, 0.3], 6)
    found = active_units(3.0 + 10.0 * means, 100.0 * variances, prior_mean=3.0, prior_sd=[10.0, 10.0])
    same = active_units(means, variances)
    np.testing.assert_allclose(found.variance, same.variance, rtol=1e-10)
    np.testing.assert_allclose(found.kl, same.kl, rtol=1e-9)


def test_bad_numbers_are_never_a_pass():
    means, variances = linear_posterior(500, [1.0, 1.0], 7)
    means = means.copy()
    means[3, 1] = math.nan
    found = active_units(means, variances)
    assert found.collapse == "unknown"
    assert found.check.passed is None
    assert math.isnan(found.check.value)
    few = active_units(means[10 : 10 + MIN_ROWS - 1], variances[10 : 10 + MIN_ROWS - 1])
    assert few.check.passed is None


@pytest.mark.parametrize(
    "call",
    [
        lambda: active_units(np.zeros(3), np.ones(3)),
        lambda: active_units(np.zeros((3, 2)), -np.ones((3, 2))),
        lambda: active_units(np.zeros((3, 2)), np.ones((3, 1))),
        lambda: active_units(np.zeros((3, 2)), np.ones((3, 2)), prior_sd=0.0),
        lambda: active_units(np.zeros((3, 2)), np.ones((3, 2)), labels=["a"]),
        lambda: active_units_of_draws(np.zeros((1, 3, 2))),
    ],
)
def test_wrong_input_is_refused(call):
    with pytest.raises(DataError, match="need"):
        call()


def test_means_that_follow_a_prior_of_each_row_are_no_activity():
    """With p(z | c) = q(z | x) the means vary with c, and tell nothing: the rate is zero."""
    draws = np.random.default_rng(3).normal(size=(100, 1, 2)) + np.random.default_rng(4).normal(size=(200, 2))
    found = active_units_of_draws(draws, rate=1e-4)
    assert found.collapse == "all"
    assert found.check.passed is False
    assert active_units_of_draws(draws, rate=0.3).collapse == "none"
    assert active_units_of_draws(draws).collapse == "none"
