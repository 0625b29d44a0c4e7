"""Multilevel Monte Carlo: the price of Black and Scholes, known rates, and samplers with planted faults."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from ppl_models.errors import DataError, OptionError
from ppl_models.inference.monte_carlo.coupled_paths import CoupledEuler, geometric_brownian_motion
from ppl_models.inference.monte_carlo.integrand import Integrand
from ppl_models.inference.monte_carlo.moments import SPREAD
from ppl_models.inference.monte_carlo.multilevel import Multilevel
from ppl_models.inference.monte_carlo.sources import SamplerSource
from ppl_models.program import isolated
from ppl_models.workflow.expecting import expect

from .coverage import BAND, covered

BLACK_SCHOLES = 10.450584


def call(price):
    return math.exp(-0.05) * torch.relu(price - 100.0)


PRICE = geometric_brownian_motion(100.0, 0.05, 0.2, 1.0)


def run_of(f, sampler, num_draws, seed=0, **options):
    with isolated(seed=seed):
        run = Multilevel(**options).start(Integrand(f), SamplerSource(sampler), seed)
        run.extend(num_draws)
        return run


def known(level, num_draws, noise=None):
    """X_l = Z + 2**-l (1 + Z'): the mean of X_l is 2**-l, and the variance of a difference 4**-l."""
    z, other = torch.randn(2, num_draws, dtype=torch.float64) if noise is None else noise
    fine = z + 2.0**-level * (1.0 + other)
    return fine, (None if level == 0 else z + 2.0 ** (1 - level) * (1.0 + other))


def check_of(found, name):
    return next(check for check in found.checks if check.name == name)


def test_the_price_of_black_and_scholes_to_a_wanted_error():
    found = expect(call, PRICE, target_error=0.03, method="multilevel", seed=1)
    assert found.status == "met"
    assert found.standard_error <= 0.03
    assert abs(found.estimate - BLACK_SCHOLES) < 4.0 * 0.03
    evidence = found.evidence
    assert evidence["bias"] < 0.03
    assert 0.8 < evidence["beta"] < 1.2
    assert evidence["gamma"] == pytest.approx(1.0)
    assert sum(evidence["draws"]) == found.num_draws
    # coarse draws are cheap and many: the same error from the finest level alone would cost more
    cost = float(np.dot(evidence["draws"], evidence["costs"]))
    plain = 161.0 / found.standard_error**2 * evidence["costs"][-1]
    assert cost < 0.5 * plain


def test_the_means_of_euler_paths_are_those_of_compound_interest():
    """E[S_l] = S (1 + r / n)^n exactly, so that alpha tends to one; the drift is large so that it can be seen."""
    sampler = geometric_brownian_motion(1.0, 1.0, 0.1, 1.0, first_steps=4)
    run = run_of(lambda price: price, sampler, 60_000)
    found = run.estimate()
    steps = [4 * 2**level.index for level in run.levels]
    exact = [(1.0 + 1.0 / n) ** n for n in steps]
    wanted = np.diff(exact, prepend=0.0)
    errors = [float(level.difference.standard_error) for level in run.levels]
    z = np.abs(np.array(found.evidence["means"]) - wanted) / errors
    assert z.max() < 4.5
    assert abs(found.evidence["alpha"] - 1.0) < 0.15
    assert abs(found.value - math.e) < 4.0 * found.standard_error
    # the bias that is left is e less the finest mean
    assert found.evidence["bias"] == pytest.approx(math.e - exact[-1], rel=0.3)


def test_fine_and_coarse_paths_share_their_noise():
    """A coarse path is an Euler path of half as many steps: with additive noise the end points agree exactly."""
    sampler = CoupledEuler(lambda x, t: torch.zeros_like(x), lambda x, t: torch.ones_like(x), 0.0, 2.0)
    with isolated(seed=0):
        fine, coarse = sampler(3, 4_000)
    assert coarse is not None
    torch.testing.assert_close(fine, coarse)
    assert abs(float(fine.var()) - 2.0) < 5.0 * 2.0 * math.sqrt(2.0 / 4_000)


def test_rates_variances_and_allocation_of_a_known_sampler():
    found = run_of(lambda x: x, known, 200_000, seed=3).estimate()
    evidence = found.evidence
    assert abs(evidence["beta"] - 2.0) < 0.2
    assert abs(evidence["alpha"] - 1.0) < 0.3
    variances = np.array(evidence["variances"], dtype=float)
    wanted = np.array([2.0, *(4.0**-level for level in range(1, len(variances)))])
    counts = np.array(evidence["draws"])
    assert (np.abs(variances / wanted - 1.0) < 6.0 * np.sqrt(2.0 / counts)).all()
    best = np.sqrt(wanted / evidence["costs"])
    np.testing.assert_allclose(counts[:2] / counts.sum(), best[:2] / best.sum(), rtol=0.05)
    assert abs(found.value) < 4.0 * found.standard_error


@pytest.mark.statistical
def test_intervals_cover():
    found = []
    with isolated(seed=1):
        for _ in range(500):
            run = Multilevel().start(Integrand(torch.square), SamplerSource(known), 0)
            run.extend(10_000)
            found.append(run.estimate())
    values, errors, freedom = zip(*((e.value, e.standard_error, e.degrees_of_freedom) for e in found), strict=True)
    share = covered(values, errors, 1.0, np.array(freedom))
    assert BAND[0] <= share <= BAND[1], share
    # the planted fault: an error bar without the weak error
    alone = [float(e.evidence["monte_carlo_error"]) for e in found]
    assert covered(values, alone, 1.0) < share


@pytest.mark.exhaustive
def test_the_price_is_covered_at_a_wanted_error():
    found = [expect(call, PRICE, target_error=0.1, method="multilevel", seed=seed) for seed in range(600)]
    share = np.mean([e.interval[0] <= BLACK_SCHOLES <= e.interval[1] for e in found])
    assert BAND[0] <= share <= BAND[1], share
    assert math.sqrt(np.mean([(e.estimate - BLACK_SCHOLES) ** 2 for e in found])) < 0.1


def test_a_sampler_whose_coarse_states_are_others_is_seen():
    def wrong(level, num_draws):
        fine, coarse = known(level, num_draws)
        return fine, None if coarse is None else coarse + 0.3

    assert check_of(run_of(lambda x: x, wrong, 30_000).estimate(), "coupling").passed is False
    assert check_of(run_of(lambda x: x, known, 30_000).estimate(), "coupling").passed is True


def test_a_sampler_without_common_noise_is_seen():
    def uncoupled(level, num_draws):
        return known(level, num_draws)[0], None if level == 0 else known(level - 1, num_draws)[0]

    found = run_of(lambda x: x, uncoupled, 30_000).estimate()
    assert check_of(found, "variance of the differences").passed is False


def test_too_few_levels_leave_a_weak_error_that_is_said():
    found = run_of(lambda x: x, known, 400_000, max_levels=3).estimate()
    assert check_of(found, "weak error").passed is False
    # X_2 has the mean 1/4; the stated error holds it
    assert abs(found.value - 0.25) < 5.0 * float(found.evidence["monte_carlo_error"])
    assert 0.2 < found.standard_error < 0.4


def above(price):
    return (price > 150.0).double()


ABOVE = float(norm.cdf((math.log(100.0 / 150.0) + 0.05 - 0.02) / 0.2))


def test_a_level_whose_pilots_show_no_change_is_not_taken_for_nothing():
    """The planted fault: a digital payoff, whose differences are mostly zero, and by their pilots alone all of them."""
    found = [expect(above, PRICE, 30_000, method="multilevel", seed=seed) for seed in range(12)]
    assert not any(e.passed and abs(e.estimate - ABOVE) > 4.0 * e.standard_error for e in found)
    # 95 % intervals: more than 3 of 12 miss with a probability of 2e-3
    assert sum(e.interval[0] <= ABOVE <= e.interval[1] for e in found) >= 9
    assert any(check_of(e, "draws with a change").passed is None for e in found)
    assert all(float(e.evidence["bias"]) > 0.0 for e in found)


def test_a_wanted_error_is_not_met_by_levels_that_were_not_seen():
    """At seed 8 the pilots of the coarsest level are all zero."""
    for seed in (0, 8):
        found = expect(above, PRICE, target_error=2e-3, method="multilevel", seed=seed)
        assert found.status == "met"
        assert abs(found.estimate - ABOVE) < 4.0 * found.standard_error
        assert min(found.evidence["draws"]) > 200


def test_ordinary_prices_pass_and_a_constant_says_that_it_is_one():
    found = [expect(call, PRICE, 30_000, method="multilevel", seed=seed) for seed in range(5)]
    assert all(e.passed for e in found), found
    still = expect(torch.ones_like, PRICE, 3_000, method="multilevel")
    assert check_of(still, SPREAD).passed is None
    assert still.standard_error == 0.0


def test_several_outputs_are_estimated_together():
    found = run_of(lambda x: torch.stack([x, x * x], -1), known, 30_000, seed=2).estimate()
    assert found.value.shape == found.standard_error.shape == (2,)
    assert (np.abs(found.value - [0.0, 1.0]) < 4.5 * found.standard_error).all()


def test_mistakes_are_named():
    with pytest.raises(OptionError, match="coupled"):
        expect(torch.square, torch.distributions.Normal(0.0, 1.0), method="multilevel")
    with pytest.raises(DataError, match=r"sampler\(level, num_draws\)"):
        expect(torch.square, lambda num_draws: torch.randn(num_draws), method="multilevel")
    with pytest.raises(DataError, match="coarse part is None at level 1"):
        expect(torch.square, lambda level, n: (torch.randn(n), None), method="multilevel")
    with pytest.raises(DataError, match="3 states at level 0"):
        expect(torch.square, lambda level, n: (torch.randn(3), None), method="multilevel")
    with pytest.raises(OptionError, match="cost"):
        expect(torch.square, known, method="multilevel", cost=lambda level: -1.0)
    with pytest.raises(OptionError, match="max_levels"):
        expect(torch.square, known, method="multilevel", max_levels=2)
    with pytest.raises(OptionError, match="volatility"):
        geometric_brownian_motion(100.0, 0.05, -0.2, 1.0)
