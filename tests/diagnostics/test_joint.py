"""Dependence between parameters: the marginals of every fit here are right."""

import math
import time

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

from ppl_models.diagnostics import check_joint, check_joint_with_psis, compare, moment_checks
from ppl_models.diagnostics.joint import JOINT_LIMIT

from .samples import autoregressive, matrix

NUM_DRAWS = 10_000


def correlated(rng, shape, correlation):
    """Pairs of standard normals, shape (chain, draw, 2)."""
    noise = rng.normal(size=(*shape, 2))
    noise[..., 1] = correlation * noise[..., 0] + math.sqrt(1 - correlation**2) * noise[..., 1]
    return noise


def test_dropped_correlation_is_seen_though_every_marginal_is_right():
    rng = np.random.default_rng(1)
    fit, baseline = matrix(rng.normal(size=(1, NUM_DRAWS, 2))), matrix(correlated(rng, (4, 1_000), 0.9))
    assert all(check.passed for check in moment_checks(compare(fit, baseline), "baseline"))
    check = check_joint(fit, baseline)
    assert check.passed is False
    # x - y has sd sqrt(2) instead of sqrt(0.2); the ridge and the clipped scores take 6 %
    assert check.value == pytest.approx(math.log(math.sqrt(10)), abs=4 * check.mcse + 0.06)
    assert "`x[0]` and `x[1]`: their combination is 3" in check.detail
    assert "too wide" in check.detail
    assert "full_rank" in check.advice


def test_dropped_correlation_is_seen_without_a_baseline():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(NUM_DRAWS, 2))
    log_ratio = multivariate_normal([0, 0], [[1, 0.9], [0.9, 1]]).logpdf(x) - norm.logpdf(x).sum(axis=1)
    check = check_joint_with_psis(matrix(x[None]), log_ratio)
    assert check.passed is False
    assert check.value == pytest.approx(math.log(math.sqrt(10)), abs=4 * check.mcse + 0.06)


def test_psis_weights_repair_it():
    rng = np.random.default_rng(3)
    x, baseline = rng.normal(size=(NUM_DRAWS, 2)), matrix(correlated(rng, (4, 1_000), 0.8))
    log_weights = multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]]).logpdf(x) - norm.logpdf(x).sum(axis=1)
    assert check_joint(matrix(x[None]), baseline).passed is False
    assert check_joint(matrix(x[None]), baseline, log_weights=log_weights).passed is True


def test_invented_correlation_is_too_narrow():
    rng = np.random.default_rng(4)
    check = check_joint(matrix(correlated(rng, (1, NUM_DRAWS), 0.9)), matrix(rng.normal(size=(4, 1_000, 2))))
    assert check.passed is False
    assert "too narrow" in check.detail


def test_one_pair_among_many_is_found_quickly():
    rng = np.random.default_rng(5)
    fit, baseline = rng.normal(size=(1, 4_000, 1_200)), rng.normal(size=(4, 500, 1_200))
    baseline[..., [10, 20]] = correlated(rng, (4, 500), 0.95)
    labelled = matrix(fit[..., :400]), matrix(baseline[..., :400])
    check = check_joint(*labelled)
    assert check.passed is False
    assert "x[10]" in check.detail
    assert "x[20]" in check.detail
    start = time.process_time()
    assert check_joint(matrix(fit), matrix(rng.normal(size=(4, 500, 1_200)))).passed is True
    assert time.process_time() - start < 60  # about 3 s


def test_repeated_parameters_and_constants_are_no_finding():
    """Deterministics that repeat latents make the covariance singular."""
    rng = np.random.default_rng(6)

    def repeated(shape):
        z = correlated(rng, shape, 0.7)
        return matrix(
            np.concatenate([z, 3 + 2 * z, np.exp(z), z.sum(-1, keepdims=True), np.ones((*shape, 1))], axis=-1)
        )

    check = check_joint(repeated((1, NUM_DRAWS)), repeated((4, 1_000)))
    assert check.passed is True


def test_needs_two_parameters():
    rng = np.random.default_rng(7)
    one = matrix(rng.normal(size=(4, 500, 1)))
    assert check_joint(one, one) is None
    assert check_joint_with_psis(one, np.zeros(2_000)) is None


def test_too_few_draws_are_unresolved():
    rng = np.random.default_rng(8)
    few = [matrix(rng.normal(size=(1, 100, 2))) for _ in range(2)]
    assert check_joint(*few).passed is not True


def funnel(rng, shape):
    """Neal's funnel with four arms, and the arms' standardised noise: heavy tails and a non-linear dependence."""
    noise = rng.normal(size=(*shape, 5))
    noise[..., 1:] *= np.exp(1.5 * noise[..., :1])
    return matrix(noise)


def dense(rng, shape, seed=9, size=18):
    """Normal draws of one dense covariance."""
    return matrix(rng.normal(size=(*shape, size)) @ np.random.default_rng(seed).normal(size=(size, size)))


@pytest.mark.statistical
@pytest.mark.parametrize("draws", [funnel, dense])
def test_rate_of_false_alarms_against_a_baseline(draws):
    """Exact fits, baselines of 1,000 independent draws: none of 50 fails, and none is left unresolved."""
    rng = np.random.default_rng(10)
    found = [check_joint(draws(rng, (1, 4_000)), draws(rng, (4, 250))) for _ in range(50)]
    assert all(check.passed is True for check in found)
    assert max(check.value for check in found) < JOINT_LIMIT / 2


@pytest.mark.statistical
def test_rate_of_false_alarms_with_correlated_chains():
    rng = np.random.default_rng(11)
    for _ in range(50):
        baseline = matrix(autoregressive(rng, (4, 1_000, 10), 0.8))
        assert check_joint(matrix(rng.normal(size=(1, 4_000, 10))), baseline).passed is True


@pytest.mark.statistical
def test_rate_of_false_alarms_without_a_baseline():
    """A guide 3 % too narrow in ten dimensions is right in every combination: none of 50 fails."""
    rng = np.random.default_rng(12)
    for _ in range(50):
        x = 0.97 * rng.normal(size=(4_000, 10))
        log_ratio = (norm.logpdf(x) - norm.logpdf(x, scale=0.97)).sum(axis=1)
        assert check_joint_with_psis(matrix(x[None]), log_ratio).passed is True
