"""The checks of corrected draws: each passes clean input and is seen to fail a planted fault."""

import math

import numpy as np
import pytest

from ppl_models.diagnostics import weighted_moments
from ppl_models.diagnostics.resampling import metropolise
from ppl_models.workflow.correction.chain_moments import chain_moments
from ppl_models.workflow.correction.checks import (
    advise,
    check_acceptance,
    check_effective,
    check_precision,
    check_stay,
    check_weights,
)

LABELS = ("a", "b")


def chains(seed=0, num_draws=1_000):
    return np.random.default_rng(seed).standard_normal((4, num_draws, 2))


def log_ratio(variance, num_draws=10_000, seed=0):
    """Of N(0, variance) for N(0, 1): the true k is 1 - variance."""
    x = math.sqrt(variance) * np.random.default_rng(seed).standard_normal(num_draws)
    return -0.5 * x**2 + 0.5 * x**2 / variance


@pytest.mark.statistical
def test_plain_weights_need_a_variance():
    """At a true k of 0.2 the limit is four standard errors (0.07 from 10,000 draws) away: no false alarm in 5 seeds."""
    assert all(check_weights(log_ratio(0.8, seed=seed)).passed for seed in range(5))
    assert all(check_weights(log_ratio(0.15, seed=seed)).passed is False for seed in range(5))


def test_where_smoothing_would_do_it_is_advised():
    quantiles = (np.arange(10_000) + 0.5) / 10_000
    found = check_weights(-0.6 * np.log1p(-quantiles))  # Pareto weights of shape 0.6
    assert found.passed is False
    assert 0.55 < found.value < 0.65
    assert "psis" in found.advice
    assert "nuts" in check_weights(log_ratio(0.1)).advice


@pytest.mark.statistical
def test_independent_draws_are_effective_and_precise():
    """2,000 independent draws: limits of 400 and 0.05 are far away, so no false alarm in 20 seeds."""
    for seed in range(20):
        moments = chain_moments(chains(seed, 500))
        assert check_effective(moments, LABELS).passed
        assert check_precision(moments, LABELS).passed


def test_draws_that_repeat_are_not():
    moments = chain_moments(np.repeat(chains(num_draws=50), 20, axis=1))
    for check in (check_effective(moments, LABELS), check_precision(moments, LABELS)):
        assert check.passed is False
        assert "a" in check.detail or "b" in check.detail
        assert check.advice


def test_weights_bound_the_effective_number():
    moments = chain_moments(chains())
    found = check_effective(moments, LABELS, most=100.0)
    assert (found.value, found.passed) == (100.0, False)


@pytest.mark.parametrize("fault", ["not finite", "constant", "few"])
def test_what_cannot_be_measured_is_no_pass(fault):
    values = chains()
    if fault == "not finite":
        values[0, 0, 1] = np.nan
    elif fault == "constant":
        values[:] = 2.0
    else:
        values = values[:, :4]
    for check in (check_effective(chain_moments(values), LABELS), check_precision(chain_moments(values), LABELS)):
        assert check.passed is None
        assert math.isnan(check.value)
        assert "not measured" in check.detail


def test_errors_of_chains_are_those_of_independent_draws_where_they_are():
    """The standard error of the mean of n normal draws is 1 / sqrt(n), of their log sd 1 / sqrt(2 n)."""
    moments = chain_moments(chains())
    # the ESS of 4,000 draws has a relative error of some per cent; half that on its root
    np.testing.assert_allclose(moments.mean_error, 1 / np.sqrt(4_000), rtol=0.2)
    np.testing.assert_allclose(moments.log_sd_error, 1 / np.sqrt(8_000), rtol=0.2)


def test_a_constant_beside_what_varies_is_passed_over():
    values = chains()
    values[..., 1] = 3.0
    assert check_effective(chain_moments(values), LABELS).passed
    flat = weighted_moments(values.reshape(-1, 2), np.full(4_000, -np.log(4_000)))
    assert check_precision(flat, LABELS).passed


def test_a_chain_that_moves_and_one_that_sticks():
    moves = metropolise(np.zeros((4, 1_000)), np.zeros(4), 0)
    assert check_acceptance(moves).value == 1.0
    assert check_acceptance(moves).passed
    assert check_stay(moves).passed
    ratio = np.zeros((4, 1_000))
    ratio[2, 100] = 6.0  # a weight of 400 draws
    sticks = metropolise(ratio, np.zeros(4), 0)
    found = check_stay(sticks)
    assert found.passed is False
    assert found.advice
    never = metropolise(np.full((4, 1_000), -9.0), np.zeros(4), 0)
    assert check_acceptance(never).passed is False
    for check in (check_acceptance(never[:, :0]), check_stay(never[:, :0])):
        assert check.passed is None


def test_advice_goes_to_what_did_not_pass():
    found = advise([check_acceptance(np.arange(10)[None]), check_acceptance(np.full((1, 10), -1))], "do this")
    assert [check.advice for check in found] == ["", "do this"]
