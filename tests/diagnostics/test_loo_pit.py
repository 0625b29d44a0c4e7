import math

import numpy as np
import pytest

from ppl_models.diagnostics import check_loo_pit, leave_one_out, loo_pit
from ppl_models.diagnostics.loo_pit import _least_probability
from ppl_models.errors import DataError


def uniforms(seed, number=100):
    return np.random.default_rng(seed).uniform(size=number)


def equal_weights(draws):
    return np.full(draws.shape, -math.log(len(draws)))


def test_transform_is_the_weighted_share_below():
    rng = np.random.default_rng(1)
    draws, observed = rng.normal(size=(2_000, 5)), np.array([-1.0, 0.0, 0.5, 2.0, -40.0])
    weights = rng.dirichlet(np.ones(2_000), size=5).T
    found = loo_pit(observed, draws, np.log(weights))
    below = (weights * (draws < observed)).sum(axis=0)
    assert (np.abs(found - below) <= (weights**2).sum(axis=0)).all()
    assert 0.0 < found[4] < 0.002


def test_counts_are_spread_over_their_share():
    rng = np.random.default_rng(2)
    draws = rng.poisson(2.0, size=(4_000, 1_000)).astype(float)
    observed = rng.poisson(2.0, size=1_000).astype(float)
    found = loo_pit(observed, draws, equal_weights(draws))
    assert check_loo_pit(found).passed is True
    assert check_loo_pit(found).value > 0.01
    ties = (draws == observed).mean(axis=0)
    below = (draws < observed).mean(axis=0)
    assert ((found >= below - 1 / 4_000) & (found <= below + ties + 1 / 4_000)).all()


def test_counts_that_are_overdispersed_fail():
    rng = np.random.default_rng(3)
    draws = rng.poisson(4.0, size=(2_000, 100)).astype(float)
    check = check_loo_pit(loo_pit(rng.negative_binomial(1.0, 0.2, 100), draws, equal_weights(draws)))
    assert check.passed is False
    assert "tails" in check.detail


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda u: 0.5 + 0.45 * (u - 0.5), "middle"),
        (lambda u: np.where(u < 0.5, u / 2, (u + 1.0) / 2), "tails"),
        (lambda u: u**2, "below"),
        (lambda u: 1.0 - (1.0 - u) ** 2, "above"),
    ],
)
def test_every_shape_is_found_and_named(change, words):
    check = check_loo_pit(change(uniforms(4)))
    assert check.passed is False
    assert words in check.detail
    assert check.advice


@pytest.mark.statistical
@pytest.mark.parametrize("number", [10, 100, 1_000])
def test_rate_of_false_alarms(number):
    """1 in 100: of 200, more than 8 with a chance of 0.0003."""
    assert (
        sum(check_loo_pit(uniforms(seed, number)).passed is False for seed in range(200 if number < 500 else 40)) <= 8
    )


def conjugate_pit(seed, spread, number=60, num_draws=2_000):
    rng = np.random.default_rng(seed)
    data = spread * rng.normal(size=number)
    means = data.mean() + rng.normal(size=num_draws) / math.sqrt(number)
    found = leave_one_out(-0.5 * (data - means[:, None]) ** 2)
    return loo_pit(data, means[:, None] + rng.normal(size=(num_draws, number)), found.log_weights, seed=seed)


@pytest.mark.statistical
def test_true_models_pass_and_wrong_spreads_fail():
    """Dependence makes the check cautious: at most 1 in 100; data with twice or half the sd fail 9 times in 10."""
    assert sum(check_loo_pit(conjugate_pit(seed, 1.0)).passed is False for seed in range(40)) <= 3
    assert sum(check_loo_pit(conjugate_pit(seed, 2.0)).passed is False for seed in range(20)) >= 16
    assert sum(check_loo_pit(conjugate_pit(seed, 0.5)).passed is False for seed in range(20)) >= 16


def test_smallest_probability_by_hand():
    """One value below a half of two: P(count <= 1) = P(count >= 1) = 3/4; none below: P(count <= 0) = 1/4."""
    found = _least_probability(np.array([[0.2, 0.9], [0.6, 0.9]]), 1)
    np.testing.assert_allclose(found, [0.75, 0.25])


@pytest.mark.parametrize(("pit", "words"), [(uniforms(1, 7), "7 observations"), (np.full(20, np.nan), "NaN")])
def test_what_cannot_be_measured_is_no_pass(pit, words):
    check = check_loo_pit(pit)
    assert check.passed is None
    assert math.isnan(check.value)
    assert words in check.detail


def test_bad_input_is_refused():
    for wrong in (np.zeros((3, 3)), np.full(20, 1.5)):
        with pytest.raises(DataError, match="pit"):
            check_loo_pit(wrong)
    with pytest.raises(DataError, match="LOO-PIT"):
        loo_pit(np.zeros(3), np.zeros((500, 2)), np.zeros((500, 2)))
