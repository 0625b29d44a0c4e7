"""Importance sampling, normalised and self-normalised: closed forms, coverage, and faults that must be seen."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import distributions as dist

from ppl_models.errors import DataError, OptionError
from ppl_models.inference.monte_carlo.distribution_source import DistributionSource
from ppl_models.inference.monte_carlo.importance import Importance
from ppl_models.inference.monte_carlo.integrand import Integrand
from ppl_models.inference.monte_carlo.self_normalised import SelfNormalised
from ppl_models.inference.monte_carlo.sources import SamplerSource
from ppl_models.program import isolated

from .coverage import BAND, chance_of_leaving, covered

ZERO = torch.zeros((), dtype=torch.float64)
STANDARD = dist.Normal(ZERO, 1.0)
FOUNDING = 3.0**-0.5


def normal(sd):
    return dist.Normal(ZERO, sd)


def founding(z):
    return torch.exp(-z * z)


def unnormalised(z):
    return -0.5 * z * z


def estimate(method, f, q, num_draws, seed=0, parts=1):
    source = DistributionSource(q) if isinstance(q, dist.Distribution) else SamplerSource(q)
    with isolated(seed=seed):
        run = method.start(Integrand(f), source, seed)
        for _ in range(parts):
            run.extend(num_draws // parts)
        return run.estimate()


def check_of(found, name):
    return next(check for check in found.checks if check.name == name)


def test_the_founding_integrand_has_no_variance_where_the_weights_have_none_either():
    """s² = 1/3: w f is constant, and k of the weights 2/3; in two dimensions their tail is exactly Pareto."""
    found = estimate(Importance(normal(3.0**-0.5)), founding, STANDARD, 100_000)
    np.testing.assert_allclose(found.value, FOUNDING, rtol=1e-12)
    assert found.standard_error < 1e-15
    assert all(check.passed for check in found.checks), found.checks
    plane = dist.Independent(dist.Normal(torch.zeros(2, dtype=torch.float64), 1.0), 1)
    narrow = dist.Independent(dist.Normal(torch.zeros(2, dtype=torch.float64), 3.0**-0.5), 1)
    flat = estimate(Importance(narrow), lambda z: torch.exp(-(z * z).sum(-1)), plane, 400_000)
    np.testing.assert_allclose(flat.value, 1.0 / 3.0, rtol=1e-12)
    tail = 3.0 * math.sqrt(400_000)
    assert abs(flat.evidence["khat_weights"] - 2.0 / 3.0) < 4.0 * (1.0 + 2.0 / 3.0) / math.sqrt(tail)
    # the weights alone are worthless for another f
    other = estimate(SelfNormalised(narrow), lambda z: z[:, 0] ** 2, plane, 20_000)
    assert check_of(other, "k-hat").passed is not True


@pytest.mark.parametrize("variance", [0.8, 1.0, 2.0, 9.0])
def test_effective_draws_of_the_weights_follow_the_closed_form(variance):
    num_draws = 200_000
    found = estimate(Importance(normal(variance**0.5)), torch.ones_like, STANDARD, num_draws)
    # sd of mean(w²) by the delta method: E[w^4] exists for variance > 3/4
    wanted = math.sqrt(2.0 * variance - 1.0) / variance
    fourth = variance**2 / math.sqrt(4.0 * variance - 3.0)
    error = wanted * math.sqrt(max(fourth * wanted**2 - 1.0, 0.0) / num_draws)
    assert abs(found.evidence["ess_weights"] / num_draws - wanted) < 5.0 * error + 1e-9


def test_matches_the_formulas_on_its_own_draws():
    num_draws = 5_000
    proposal = normal(1.3)
    found = estimate(Importance(proposal), founding, STANDARD, num_draws, seed=3)
    ratio = estimate(SelfNormalised(proposal, smooth=False), founding, unnormalised, num_draws, seed=3)
    with isolated(seed=3):
        STANDARD.sample((1_000,))
        z = proposal.sample((num_draws,))
    with isolated(seed=3):
        proposal.sample((1_000,))
        y = proposal.sample((num_draws,))
    terms = (torch.exp(STANDARD.log_prob(z) - proposal.log_prob(z)) * founding(z)).numpy()
    np.testing.assert_allclose(found.value, terms.mean(), rtol=1e-12)
    np.testing.assert_allclose(found.standard_error, terms.std(ddof=1) / num_draws**0.5, rtol=1e-10)
    weights = torch.softmax(unnormalised(y) - proposal.log_prob(y), 0).numpy()
    mean = weights @ founding(y).numpy()
    away = founding(y).numpy() - mean
    np.testing.assert_allclose(ratio.value, mean, rtol=1e-12)
    np.testing.assert_allclose(ratio.standard_error**2, (weights**2 / (1 - weights)) @ away**2, rtol=1e-10)
    np.testing.assert_allclose(ratio.evidence["ess_weights"], 1.0 / (weights**2).sum(), rtol=1e-10)
    np.testing.assert_allclose(ratio.ess, (weights @ away**2) / ratio.standard_error**2, rtol=1e-10)


def test_equal_weights_give_the_plain_mean_and_error():
    found = estimate(SelfNormalised(STANDARD), founding, unnormalised, 4_000, seed=2)
    with isolated(seed=2):
        STANDARD.sample((1_000,))
        values = founding(STANDARD.sample((4_000,))).numpy()
    np.testing.assert_allclose(found.value, values.mean(), rtol=1e-12)
    np.testing.assert_allclose(found.standard_error, values.std(ddof=1) / 4_000**0.5, rtol=1e-10)


COVERAGE = [
    (Importance(normal(1.5)), STANDARD, founding, FOUNDING),
    (Importance(normal(1.5), smooth=True), STANDARD, lambda z: z, 0.0),
    (SelfNormalised(normal(1.5)), unnormalised, founding, FOUNDING),
    (SelfNormalised(dist.StudentT(torch.tensor(5.0, dtype=torch.float64))), unnormalised, torch.square, 1.0),
]


def coverage(method, q, f, truth, num_runs, num_draws=1_000):
    source = DistributionSource(q) if isinstance(q, dist.Distribution) else SamplerSource(q)
    found = []
    with isolated(seed=1):
        for _ in range(num_runs):
            run = method.start(Integrand(f), source, 0)
            run.extend(num_draws)
            found.append(run.estimate())
    values, errors, freedom = zip(*((e.value, e.standard_error, e.degrees_of_freedom) for e in found), strict=True)
    return covered(values, errors, truth, np.array(freedom))


@pytest.mark.statistical
@pytest.mark.parametrize(("method", "q", "f", "truth"), COVERAGE[1:3], ids=["importance", "self-normalised"])
def test_intervals_cover(method, q, f, truth):
    share = coverage(method, q, f, truth, num_runs=500)
    assert BAND[0] <= share <= BAND[1], share


@pytest.mark.exhaustive
@pytest.mark.parametrize(("method", "q", "f", "truth"), COVERAGE)
def test_intervals_cover_in_many_runs(method, q, f, truth):
    assert chance_of_leaving(2_000) < 1e-4
    share = coverage(method, q, f, truth, num_runs=2_000)
    assert BAND[0] <= share <= BAND[1], share


def test_without_leverage_and_degrees_of_freedom_it_would_be_too_sure():
    """The planted fault: the textbook's error and a normal quantile, at few draws."""
    z = 3.0 * np.random.default_rng(0).standard_normal((4_000, 12))
    weights = np.exp(-0.5 * z**2 * (1.0 - 1.0 / 9.0))
    weights /= weights.sum(axis=1, keepdims=True)
    mean = (weights * z).sum(axis=1)
    square = weights**2 * (z - mean[:, None]) ** 2
    freedom = np.maximum(1.0 / (weights**2).sum(axis=1) - 1.0, 1.0)
    textbook = covered(mean, np.sqrt(square.sum(axis=1)), 0.0)
    ours = covered(mean, np.sqrt((square / (1.0 - weights)).sum(axis=1)), 0.0, freedom)
    assert textbook < 0.91 < BAND[0] < ours


@pytest.mark.parametrize("method", [Importance, SelfNormalised])
def test_a_proposal_that_does_not_reach_all_of_the_target_is_found(method):
    uniform = dist.Uniform(ZERO, 1.0)
    found = estimate(method(uniform), torch.square, STANDARD, 5_000)
    check = check_of(found, "support")
    share = 2.0 * norm.sf(1.0) / 2.0 + 0.5  # outside (0, 1)
    assert check.passed is False
    assert abs(check.value - share) < 5.0 * math.sqrt(share * (1 - share) / 1_000)
    beta = estimate(method(dist.Beta(ZERO + 2.0, ZERO + 2.0)), torch.square, dist.HalfNormal(ZERO + 1.0), 5_000)
    assert check_of(beta, "support").passed is False


def test_what_the_integrand_does_not_ask_for_need_not_be_reached():
    uniform = dist.Uniform(ZERO, 1.0)
    found = estimate(Importance(uniform), lambda z: (z > 0) & (z < 0.5), STANDARD, 50_000)
    assert check_of(found, "support").passed is True
    assert check_of(found, "mean weight").passed is True
    assert abs(found.value - (norm.cdf(0.5) - 0.5)) < 4.5 * found.standard_error
    # a ratio of sums needs the whole target all the same
    assert (
        check_of(estimate(SelfNormalised(uniform), lambda z: (z > 0) & (z < 0.5), STANDARD, 5_000), "support").passed
        is False
    )


def test_an_unnormalised_target_is_looked_for_outside_the_support():
    assert (
        check_of(estimate(SelfNormalised(dist.Uniform(ZERO, 1.0)), torch.square, unnormalised, 5_000), "support").passed
        is False
    )
    wide = estimate(SelfNormalised(dist.Uniform(ZERO - 6.0, 6.0)), torch.square, unnormalised, 20_000)
    assert check_of(wide, "support").passed is True
    assert abs(wide.value - 1.0) < 4.5 * wide.standard_error

    def half(z):
        return torch.where(z >= 0, unnormalised(z), torch.full_like(z, -math.inf))

    assert (
        check_of(estimate(SelfNormalised(dist.Beta(ZERO + 2, ZERO + 2)), torch.square, half, 5_000), "support").passed
        is False
    )


def test_a_missed_mode_shows_in_the_mean_weight():
    parts = dist.Normal(torch.tensor([0.0, 12.0], dtype=torch.float64), 1.0)
    mixture = dist.MixtureSameFamily(dist.Categorical(torch.tensor([0.5, 0.5], dtype=torch.float64)), parts)
    # half the mass is out of reach of these draws, but not of the density
    for method in (Importance, SelfNormalised):
        found = estimate(method(dist.Laplace(ZERO, 0.8)), torch.tanh, mixture, 20_000)
        assert check_of(found, "support").passed is True
        assert check_of(found, "mean weight").passed is False
        good = estimate(method(dist.StudentT(ZERO + 4.0, ZERO + 5.0, ZERO + 6.0)), torch.tanh, mixture, 20_000)
        assert check_of(good, "mean weight").passed is True
        assert all(check.passed for check in good.checks), good.checks
    # a density of unknown scale has no mean weight to look at
    unknown = estimate(SelfNormalised(dist.Laplace(ZERO, 0.8)), torch.tanh, mixture.log_prob, 20_000)
    assert not any(check.name == "mean weight" for check in unknown.checks)


def test_a_rare_event_is_reached_by_a_proposal_that_serves_it_alone():
    """P(z > 4) from N(4, 1): the weights' own mean has hardly begun to settle, and need not."""
    found = estimate(Importance(dist.Normal(ZERO + 4.0, 1.0)), lambda z: z > 4.0, STANDARD, 20_000)
    assert abs(found.value - norm.sf(4.0)) < 4.5 * found.standard_error
    assert found.standard_error < 0.02 * norm.sf(4.0)
    assert abs(found.evidence["mean_weight"] - 1.0) > 0.3
    assert all(check.passed for check in found.checks), found.checks


def test_a_tail_too_light_fails_and_says_so():
    for method, name in ((Importance, "k-hat of w f"), (SelfNormalised, "k-hat")):
        found = estimate(method(normal(0.35)), torch.square, STANDARD, 20_000)
        check = check_of(found, name)
        assert check.passed is False
        assert check.value > 0.7


def test_f_is_not_asked_where_there_is_no_weight():
    """log z is not defined for half of the proposal's draws, at which the target has no density."""
    found = estimate(Importance(normal(2.0)), torch.log, dist.HalfNormal(ZERO + 1.0), 50_000)
    truth = -0.5 * (np.euler_gamma + math.log(2.0))
    assert abs(found.value - truth) < 4.5 * found.standard_error


def test_an_event_that_is_never_seen_is_not_a_zero_with_certainty():
    for method in (Importance, SelfNormalised):
        found = estimate(method(normal(1.0)), lambda z: z > 9.0, STANDARD, 2_000)
        assert not all(check.passed for check in found.checks)


def test_parts_and_outputs_agree_with_one_run():
    """More draws than are kept: sums of what is forgotten and of what is kept are those of all."""

    def both(z):
        return torch.stack([z, z * z], -1)

    for method in (Importance(normal(1.5)), SelfNormalised(normal(1.5), smooth=False)):
        found = estimate(method, both, STANDARD, 120_000, parts=3, seed=5)
        single = [estimate(method, f, STANDARD, 120_000, parts=3, seed=5) for f in (lambda z: z, torch.square)]
        np.testing.assert_allclose(found.value, [e.value for e in single], rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(found.standard_error, [e.standard_error for e in single], rtol=1e-6)
    with isolated(seed=5):
        STANDARD.sample((1_000,))
        z = torch.cat([normal(1.5).sample((n,)) for n in (40_000,) * 3])
    weights = torch.softmax(unnormalised(z) - normal(1.5).log_prob(z), 0)
    np.testing.assert_allclose(single[1].value, float(weights @ z**2), rtol=1e-10)
    variance = float((weights**2 / (1 - weights)) @ (z**2 - weights @ z**2) ** 2)
    np.testing.assert_allclose(single[1].standard_error ** 2, variance, rtol=1e-3)


def test_smoothing_is_that_of_all_draws():
    from ppl_models.diagnostics import psis_weights

    proposal = normal(0.8)
    found = estimate(SelfNormalised(proposal), torch.square, unnormalised, 60_000, seed=1)
    with isolated(seed=1):
        proposal.sample((1_000,))
        z = proposal.sample((60_000,))
    log_weights, khat = psis_weights((unnormalised(z) - proposal.log_prob(z)).numpy())
    np.testing.assert_allclose(found.value, np.exp(log_weights) @ z.numpy() ** 2, rtol=1e-8)
    np.testing.assert_allclose(found.evidence["khat_weights"], khat, rtol=1e-6)


def test_mistakes_are_named():
    with pytest.raises(OptionError, match="proposal: found NoneType"):
        estimate(Importance(), founding, STANDARD, 10)
    with pytest.raises(OptionError, match=r"draws of shape \(3,\), wanted those of q, \(\)"):
        estimate(Importance(dist.Normal(torch.zeros(3), 1.0)), founding, STANDARD, 10)
    with pytest.raises(OptionError, match="self_normalised"):
        estimate(Importance(STANDARD), founding, unnormalised, 10)
    with pytest.raises(DataError, match=r"shape \(\) for 1000 draws"):
        estimate(SelfNormalised(STANDARD), founding, lambda z: unnormalised(z).sum(), 10)
    with pytest.raises(DataError, match="log density fails"):
        estimate(SelfNormalised(STANDARD), founding, lambda z: 1 / 0, 10)


def test_a_target_without_any_weight_is_a_failed_check():
    found = estimate(SelfNormalised(STANDARD), founding, lambda z: torch.full_like(z, -math.inf), 500)
    assert np.isnan(found.value)
    assert check_of(found, "effective draws").passed is False
