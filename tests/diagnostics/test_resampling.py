"""Resampling and independence Metropolis-Hastings as pure functions: exact counts, stationarity and variance."""

import numpy as np
import pytest
from closed_forms import log_normal_density

from ppl_models.diagnostics import psis_weights
from ppl_models.diagnostics.resampling import (
    acceptance_rate,
    independence_path,
    longest_stay,
    metropolise,
    resampling_variance,
    systematic,
)
from ppl_models.errors import DataError


def log_weights(num_draws=50, seed=0, spread=1.0):
    found = spread * np.random.default_rng(seed).standard_normal(num_draws)
    return found - np.logaddexp.reduce(found)


@pytest.mark.parametrize("num_draws", [10, 200])
def test_each_draw_comes_as_often_as_its_weight_says_up_to_one(num_draws):
    weights = log_weights()
    counts = np.bincount(systematic(weights, num_draws, 3), minlength=len(weights))
    assert counts.sum() == num_draws
    assert (np.abs(counts - num_draws * np.exp(weights)) < 1.0).all()


def test_no_draw_comes_twice_where_none_weighs_more_than_one_draw():
    weights = log_weights(10_000, spread=0.3)
    assert np.exp(weights).max() * 1_000 < 1.0
    assert len(np.unique(systematic(weights, 1_000, 1))) == 1_000


def test_the_order_of_the_draws_resampled_tells_nothing():
    places = systematic(log_weights(10_000, spread=0.3), 4_000, 1)
    correlation = np.corrcoef(places, np.arange(4_000))[0, 1]
    assert abs(correlation) < 4.0 / np.sqrt(4_000)


def test_equal_weights_resampled_to_fewer_are_as_good_as_that_many():
    v = resampling_variance(np.full(1_000, -np.log(1_000)), 100)
    np.testing.assert_allclose(1.0 / v.sum(), 100.0, rtol=1e-10)
    all_of_them = resampling_variance(np.full(1_000, -np.log(1_000)), 1_000)
    np.testing.assert_allclose(1.0 / all_of_them.sum(), 1_000.0, rtol=1e-10)


@pytest.mark.statistical
@pytest.mark.parametrize("num_draws", [200, 2_000], ids=["fewer than proposals", "more than proposals"])
def test_variance_of_a_resampled_mean_is_what_is_said(num_draws):
    """800 proposals of N(0, 1.5²) for N(0, 1), bounded weights, 1,500 times over."""
    num_repeats, rng = 1_500, np.random.default_rng(5)
    means, said = np.empty(num_repeats), np.empty(num_repeats)
    for repeat in range(num_repeats):
        x = 1.5 * rng.standard_normal(800)
        ratio = log_normal_density(x, 0.0, 1.0) - log_normal_density(x, 0.0, 1.5)
        weights = ratio - np.logaddexp.reduce(ratio)
        means[repeat] = x[systematic(weights, num_draws, repeat)].mean()
        said[repeat] = (resampling_variance(weights, num_draws) * (x - np.exp(weights) @ x) ** 2).sum()
    # a variance from n normal values has a relative standard error of sqrt(2 / n); E x = 0 is known
    assert abs((means**2).mean() / said.mean() - 1.0) < 4.0 * np.sqrt(2.0 / num_repeats)


def test_chain_leaves_the_target_as_it_is_exactly():
    """All transitions of a chain on four states, from acceptance over a grid of uniform numbers that is exact for them.

    Ratios of weights are powers of two, so of 16 midpoints exactly the share min(1, w_j / w_i) lies below.
    """
    proposal = np.array([0.1, 0.2, 0.3, 0.4])
    log_ratio = np.log([8.0, 4.0, 2.0, 1.0])
    grid = np.log((np.arange(16) + 0.5) / 16)
    transition = np.zeros((4, 4))
    for state in range(4):
        for proposed in range(4):
            path = independence_path(
                np.full((16, 1), log_ratio[proposed]), np.full(16, log_ratio[state]), grid[:, None]
            )
            taken = (path[:, 0] == 0).mean()
            transition[state, proposed] += proposal[proposed] * taken
            transition[state, state] += proposal[proposed] * (1.0 - taken)
    target = proposal * np.exp(log_ratio)
    target /= target.sum()
    np.testing.assert_allclose(transition.sum(axis=1), 1.0, rtol=1e-12)
    np.testing.assert_allclose(target @ transition, target, rtol=1e-12)
    flow = target[:, None] * transition
    np.testing.assert_allclose(flow, flow.T, rtol=1e-12)
    assert not np.allclose(proposal @ transition, proposal, rtol=0.01)  # nothing else is left as it is


def test_path_of_a_chain_by_hand():
    ratio = np.log([[1.0, 4.0, 2.0, 1.0]])
    path = independence_path(ratio, np.log([2.0]), np.log([[0.6, 0.9, 0.4, 0.1]]))
    # 1/2 < 0.6 stays, 4/2 is taken, 2/4 > 0.4 is taken, 1/2 > 0.1 is taken
    np.testing.assert_array_equal(path, [[-1, 1, 2, 3]])
    assert acceptance_rate(path) == 0.75


def test_longest_stay_is_counted_over_all_chains_the_start_too():
    assert longest_stay(np.array([[0, 0, 2, 2, 2], [-1, -1, -1, -1, 4]])) == 4
    assert longest_stay(np.arange(5)[None]) == 1


def test_what_has_no_posterior_density_is_never_taken():
    path = metropolise(np.full((2, 50), -np.inf), np.zeros(2), 0)
    assert (path == -1).all()


@pytest.mark.statistical
def test_a_long_chain_has_the_moments_of_the_target():
    rng, num_steps = np.random.default_rng(1), 20_000
    x = np.sqrt(0.7) * rng.standard_normal((4, num_steps))
    ratio = log_normal_density(x, 0.0, 1.0) - log_normal_density(x, 0.0, np.sqrt(0.7))
    path = metropolise(ratio, ratio[:, 0], 2)
    chain = np.take_along_axis(x, np.maximum(path, 0), axis=1)
    # asymptotic variances are at most 2 E_p[w f²] - E_p[f²]: 2.9 for x, and 6.4 times that of independent draws for x²
    error = np.sqrt(6.4 / chain.size)
    assert abs(chain.mean()) < 4 * error
    assert abs((chain**2).mean() - 1.0) < 4 * error * np.sqrt(2.0)
    assert abs((x**2).mean() - 1.0) > 4 * error * np.sqrt(2.0)


def test_smoothed_weights_can_be_resampled():
    ratio = np.random.default_rng(0).standard_normal(1_000)
    places = systematic(psis_weights(ratio)[0], 500, 0)
    assert places.min() >= 0
    assert places.max() < 1_000


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_no_weights_are_refused(bad):
    weights = np.zeros(10)
    weights[3] = bad
    for call in (lambda: systematic(weights, 5, 0), lambda: resampling_variance(weights, 5)):
        with pytest.raises(DataError, match="log_weights"):
            call()
    with pytest.raises(DataError, match="NaN or"):
        independence_path(weights[None], np.zeros(1), np.zeros((1, 10)))
    with pytest.raises(DataError, match="start"):
        independence_path(np.zeros((1, 10)), np.array([bad]), np.zeros((1, 10)))


def test_shapes_that_do_not_agree_are_refused():
    with pytest.raises(DataError, match="needs"):
        independence_path(np.zeros((2, 10)), np.zeros(3), np.zeros((2, 10)))


def test_all_weights_zero_are_refused():
    with pytest.raises(DataError, match="throughout"):
        systematic(np.full(5, -np.inf), 5, 0)
