"""Importance-weighted replicates: moments and errors against closed forms, and every check seen to fail."""

import math
from dataclasses import replace

import numpy as np
import pytest
from closed_forms import log_normal_density

from ppl_models.diagnostics import check_others, check_replicates, replicates, weighted_moments

SHAPE = (4, 2_500)


def drawn(mean, sd, seed=0, shape=SHAPE):
    return mean + sd * np.random.default_rng(seed).standard_normal(shape)


def weighted(mean, sd, seed=0, shape=SHAPE):
    """Draws of N(mean, sd²) weighted to N(0, 1)."""
    draws = drawn(mean, sd, seed, shape)
    ratio = log_normal_density(draws, 0.0, 1.0) - log_normal_density(draws, mean, sd)
    return draws[..., None], ratio


def passed(checks):
    return {check.name: check.passed for check in checks}


@pytest.mark.statistical
def test_moments_and_their_errors_are_those_of_many_repetitions():
    found = [weighted_moments(*_flat(*weighted(0.3, 1.3, seed))) for seed in range(200)]
    for values, wanted, errors in (
        ([m.mean[0] for m in found], 0.0, [m.mean_error[0] * m.sd[0] for m in found]),
        ([math.log(m.sd[0]) for m in found], 0.0, [m.log_sd_error[0] for m in found]),
    ):
        spread = np.std(values, ddof=1)
        assert abs(np.mean(values) - wanted) < 4 * spread / math.sqrt(200)
        # the sd of 200 values is known to 1 / sqrt(398)
        assert abs(math.log(spread / np.mean(errors))) < 4 / math.sqrt(398)


def _flat(values, ratio):
    weights = ratio.reshape(-1) - np.logaddexp.reduce(ratio.reshape(-1))
    return values.reshape(-1, values.shape[-1]), weights


def test_a_good_proposal_passes_and_its_evidence_is_known():
    found = replicates(*weighted(0.1, 1.1))
    assert all(passed(check_replicates(found)).values())
    assert abs(found.log_evidence) < 4 * 0.2 / math.sqrt(10_000)  # sd of these weights is below 0.2


@pytest.mark.parametrize(
    ("mean", "sd", "caught"),
    [(0.0, 0.5, "k-hat"), (2.0, 1.0, "correction")],
    ids=["too narrow", "far away"],
)
def test_planted_faults_are_caught(mean, sd, caught):
    assert passed(check_replicates(replicates(*weighted(mean, sd))))[caught] is False


@pytest.mark.parametrize(("scale", "right"), [(0.4, False), (0.9, True), (4.0, True)])
def test_sds_far_too_small_are_not_believed_and_large_ones_are(scale, right):
    found = replicates(*weighted(0.1, 1.1))
    off = replace(found, raw=replace(found.raw, sd=scale * found.corrected.sd))
    assert passed(check_replicates(off))["correction"] is right


def test_too_few_draws_are_caught_by_the_error():
    checks = passed(check_replicates(replicates(*weighted(0.1, 1.1, shape=(4, 100)))))
    assert checks["Monte Carlo error"] is False


def test_replicates_that_differ_widen_the_errors():
    values, ratio = weighted(0.0, 1.1)
    same = replicates(values, ratio).corrected
    apart = replicates(values + np.array([0.0, 0.5, 1.0, 1.5])[:, None, None], ratio).corrected
    assert apart.mean_error[0] > 10 * same.mean_error[0]


def test_khat_is_bounded_above_by_the_spread_of_its_replicates():
    found = replicates(*weighted(0.0, 0.8))
    assert found.khat_bound >= found.khats.mean()
    assert found.khat_bound >= found.khat


def test_other_starts_that_agree_and_that_do_not():
    found = replicates(*weighted(0.1, 1.1, 1)).corrected
    assert check_others(found, replicates(*weighted(-0.1, 1.2, 2)).corrected, ["x"]).passed is True
    draws = np.concatenate([drawn(0.0, 1.0, 3), drawn(6.0, 1.0, 4)], axis=1)[..., None]
    two_modes = replicates(draws, np.zeros(draws.shape[:2])).corrected
    judged = check_others(found, two_modes, ["x"])
    assert judged.passed is False
    assert "'x'" in judged.detail


def test_constants_count_for_nothing():
    values, ratio = weighted(0.1, 1.1)
    with_constant = np.concatenate([values, np.full_like(values, 3.0)], axis=-1)
    found = replicates(with_constant, ratio)
    assert list(found.corrected.varies) == [True, False]
    assert all(passed(check_replicates(found)).values())


@pytest.mark.parametrize("error", [0.5, 1.0, 2.0])
def test_other_starts_that_are_too_noisy_are_no_agreement(error):
    found = replicates(*weighted(0.1, 1.1)).corrected
    others = replace(found, mean=found.mean + 1.5 * found.sd, mean_error=np.array([error]))
    assert check_others(found, others, ["x"]).passed is None


def test_parameters_without_finite_moments_are_not_passed_over():
    values, ratio = weighted(0.1, 1.1)
    with np.errstate(over="ignore"):
        infinite = np.concatenate([values, np.exp(300.0 * values)], axis=-1)
    with np.errstate(invalid="ignore", over="ignore"):
        checks = passed(check_replicates(replicates(infinite, ratio)))
    assert checks["Monte Carlo error"] is None
    assert checks["correction"] is None
