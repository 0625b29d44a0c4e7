"""Iterates, gradients and starts of an optimisation."""

import math

import numpy as np
import pytest

from ppl_models.diagnostics import check_gradient, check_iterates, check_starts
from ppl_models.errors import DataError

from .samples import autoregressive


def stationary(seed, num_chains=4, num_steps=1_000, num_parameters=10, correlation=0.9):
    return autoregressive(np.random.default_rng(seed), (num_chains, num_steps, num_parameters), correlation)


def test_iterates_that_drift_fail():
    iterates = stationary(1)
    iterates[..., 3] += np.linspace(0.0, 5.0, 1_000)[:, None].T
    check = check_iterates(iterates, [f"loc[{place}]" for place in range(10)])
    assert check.passed is False
    assert "`loc[3]`" in check.detail


def test_chains_at_different_places_fail():
    iterates = stationary(2)
    iterates[0, :, 5] += 3.0
    assert check_iterates(iterates).passed is False
    random_walks = np.cumsum(np.random.default_rng(3).normal(size=(4, 1_000, 2)), axis=1)
    assert check_iterates(random_walks).passed is False
    assert check_iterates(random_walks[:1]).passed is not True


@pytest.mark.statistical
@pytest.mark.parametrize(("correlation", "num_chains"), [(0.0, 4), (0.9, 4), (0.98, 4), (0.9, 1)])
def test_rate_of_false_alarms_of_iterates(correlation, num_chains):
    """Stationary iterates: 0.13 %, so that none of 40 fails; with twenty effective steps a chain it is 1 %."""
    found = [check_iterates(stationary(seed, num_chains, 2_000, 10, correlation)).passed for seed in range(40)]
    assert found.count(False) <= 2 * (correlation >= 0.98)
    if correlation < 0.98:
        assert found.count(True) >= 36


def test_average_that_is_not_known_fails():
    """The mean of n steps of an AR(1) chain has the variance (1 + r) / (1 - r) / n."""
    iterates = stationary(4, correlation=0.9)
    error = math.sqrt(19.0 / 4_000)
    assert check_iterates(iterates, scale=np.full(10, 100.0)).passed is True
    check = check_iterates(iterates, scale=np.ones(10))
    assert check.passed is False
    # an effective size of 200 is known to about a fifth, and the worst of ten is reported
    assert error < check.value < 1.5 * error


def test_iterates_that_cannot_be_judged():
    iterates = stationary(5)
    assert check_iterates(iterates[:, :50]).passed is None
    assert check_iterates(np.ones((4, 200, 3))).passed is None
    iterates[1, 500:, 2] = np.nan
    assert check_iterates(iterates).passed is False
    with pytest.raises(DataError, match="chain, step, parameter"):
        check_iterates(iterates[0])
    with pytest.raises(DataError, match="labels"):
        check_iterates(stationary(5), ["one"])
    with pytest.raises(DataError, match="scale"):
        check_iterates(stationary(5), scale=np.zeros(10))


def mean_field_gradients(rng, num_draws, mean, sd, precision):
    """Of the ELBO of N(mean, sd^2) against N(0, precision^-1), for the means and the log sds."""
    noise = rng.normal(size=(num_draws, len(mean)))
    score = -(mean + sd * noise) @ precision
    return np.concatenate([score, score * sd * noise + 1.0], axis=1)


@pytest.mark.parametrize("own_scale", [False, True])
def test_gradient_says_what_is_left_to_gain(own_scale):
    """A mean that is d sds off costs d^2 / 2 nats: exact, for the ELBO is quadratic in it."""
    rng = np.random.default_rng(6)
    variances = np.array([4.0, 1.0, 0.01])
    sd, mean = np.sqrt(variances), np.array([0.0, 0.8, 0.0]) * np.sqrt(variances)
    gradients = mean_field_gradients(rng, 20_000, mean, sd, np.diag(1 / variances))
    scale = None if own_scale else np.concatenate([sd, np.full(3, math.sqrt(0.5))])
    check = check_gradient(gradients, ["a", "b", "c", "log a", "log b", "log c"], scale=scale)
    assert check.passed is False
    # d sds off, the gradients' covariance is [[1, d], [d, 2 + d^2]], whose inverse begins with (2 + d^2) / 2
    exact = 0.32 * (2 + 0.64) / 2 if own_scale else 0.32
    assert check.value == pytest.approx(exact, abs=4 * check.mcse)
    assert "`b`" in check.detail


@pytest.mark.statistical
@pytest.mark.parametrize(("num_draws", "size", "own_scale"), [(400, 5, True), (400, 5, False), (2_000, 60, True)])
def test_rate_of_false_alarms_of_gradients(num_draws, size, own_scale):
    """At the optimum: 0.13 % and 0.1 nat besides, so that none of 100 fails; the error is resolved in nine of ten."""
    found = []
    for seed in range(100):
        gradients = mean_field_gradients(np.random.default_rng(seed), num_draws, np.zeros(size), 1.0, np.eye(size))
        scale = None if own_scale else np.repeat([1.0, math.sqrt(0.5)], size)
        found.append(check_gradient(gradients, scale=scale))
    assert not any(check.passed is False for check in found)
    assert sum(check.passed is True for check in found) >= 90
    mean = np.mean([check.value for check in found])
    spread = np.std([check.value for check in found]) / math.sqrt(len(found))
    assert abs(mean) < 4 * spread  # no bias


def test_few_gradients_of_many_parameters_are_unresolved():
    gradients = np.random.default_rng(7).normal(size=(100, 2_000))
    check = check_gradient(gradients)
    assert check.passed is None
    assert check.advice == "more gradients"
    assert check_gradient(gradients[:, :20] + 1.0).passed is False


def test_gradients_that_cannot_be_judged():
    rng = np.random.default_rng(8)
    gradients = rng.normal(size=(200, 3))
    assert check_gradient(gradients[:50]).passed is None
    assert check_gradient(0 * gradients).passed is None
    assert check_gradient(np.ones((200, 3))).passed is None
    assert check_gradient(np.ones((200, 3)), scale=np.ones(3)).passed is False
    gradients[3, 1] = np.nan
    assert check_gradient(gradients).passed is None
    with pytest.raises(DataError, match="draw, parameter"):
        check_gradient(gradients[0])


ARRIVED = ("converged", "converged", "converged")


@pytest.mark.parametrize(
    ("away", "statuses", "elbos", "passed"),
    [
        ((0.0, 0.05, 0.1), ARRIVED, (-10.0, -10.02, -10.05), True),
        ((0.0, 0.05, 3.0), ARRIVED, (-10.0, -10.02, -10.05), False),  # two answers
        ((0.0, 0.05, 0.3), ARRIVED, (-10.0, -10.02, -10.05), False),
        ((0.0, 0.05, 6.0), ARRIVED, (-10.0, -10.02, -12.1), False),  # a mode of an eighth of the mass
        ((0.0, 0.05, 6.0), ARRIVED, (-10.0, -10.02, -30.0), True),  # a mode of no mass
        ((0.0, 6.0, 6.0), ARRIVED, (-10.0, -30.0, -30.0), None),  # nobody else came here
        ((0.0, 0.05, 6.0), ("converged", "converged", "max_steps"), (-10.0, -10.02, -11.0), None),
        ((0.0, 0.05, 0.1), ARRIVED, (-10.0, -9.0, -10.05), False),  # a better start was not kept
        ((0.0, 0.05, math.nan), ("converged", "max_steps", "diverged"), (-10.0, -10.0, -math.inf), True),
        ((0.0, math.nan), ("converged", "diverged"), (-10.0, -math.inf), None),
        ((0.0,), ("converged",), (-10.0,), None),
        ((), (), (), None),
    ],
)
def test_starts(away, statuses, elbos, passed):
    check = check_starts(away, statuses, elbos)
    assert check.name == "starts"
    assert check.passed is passed


def test_weight_of_a_start_is_that_of_its_mode():
    """Equal modes, an ELBO log 3 nats behind: a quarter of the mass, which counts for half of the distance."""
    check = check_starts((0.0, 2.0), ("converged",) * 2, (0.0, -math.log(3.0)), tolerance=0.0)
    assert check.value == pytest.approx(1.0, rel=1e-12)


@pytest.mark.statistical
def test_rate_of_false_alarms_of_starts():
    """Means of 1,000 draws of 100 latents from the same fit: 4.5 standard errors of the difference, one in 1,500."""
    error = math.sqrt(2.0 / 1_000)
    rng = np.random.default_rng(9)
    for _ in range(200):
        away = float(np.abs(error * rng.normal(size=100)).max())
        assert check_starts((0.0, away), ("converged",) * 2, (0.0, 0.03 * rng.normal()), error=error).passed is True


def test_starts_that_do_not_match():
    with pytest.raises(DataError, match="one per start"):
        check_starts((0.0,), ARRIVED, (1.0, 2.0, 3.0))
    with pytest.raises(DataError, match="fit kept"):
        check_starts((1.0, 1.0), ARRIVED[:2], (1.0, 2.0))
