"""What is known in closed form about each method's variance."""

import math

import numpy as np
import pytest
import torch
from torch import distributions as dist

from ppl_models.errors import OptionError, UnknownNameError
from ppl_models.inference.monte_carlo.distribution_source import DistributionSource
from ppl_models.inference.monte_carlo.integrands import INTEGRANDS
from ppl_models.inference.monte_carlo.registry import METHODS, choose_method
from ppl_models.inference.monte_carlo.sources import SamplerSource
from ppl_models.inference.monte_carlo.strata import Strata
from ppl_models.workflow.expecting import expect
from tests.inference.monte_carlo.running import estimate, many_runs

FOUNDING, EXPONENTIAL = INTEGRANDS["founding"], INTEGRANDS["exponential"]
ROOT, E = 1.0 / math.sqrt(3.0), math.e
STEERING = ("antithetic", "control_variates", "stratified", "quasi")
ONE_DRAW = 1.0 / math.sqrt(5.0) - 1.0 / 3.0


def variance_of(found, cost=1.0):
    """Variance of one draw that the standard error states."""
    return float(found.standard_error) ** 2 * found.num_draws / cost


def test_plain_states_the_variance_of_one_draw():
    found = estimate("plain", FOUNDING.f, FOUNDING.q, 1_000_000)
    # the fourth central moment of exp(-z²) is at most a quarter of its variance, as values stay within [0, 1]
    error = math.sqrt(0.25 * ONE_DRAW / found.num_draws)
    assert abs(variance_of(found) - ONE_DRAW) < 4.0 * error
    assert abs(found.value - ROOT) < 4.0 * found.standard_error
    assert found.ess == found.num_draws == 1_000_000


@pytest.mark.parametrize(
    ("known", "plain", "antithetic"), [(FOUNDING, ONE_DRAW, 2.0 * ONE_DRAW), (EXPONENTIAL, 4.670774, 2.952492)]
)
def test_antithetic_draws_help_the_monotone_and_hurt_the_even(known, plain, antithetic):
    """Variance of one evaluation: doubled for an even f; e² - e falls to e² - 2e + 1 for exp.

    A mean of two plain draws of exp(z) has variance (e² - e) / 2 = 2.335, a pair (e² - 2e + 1) / 2 = 1.476.
    """
    found = estimate("antithetic", known.f, known.q, 400_000)
    assert abs(found.value - known.exact) < 4.0 * found.standard_error
    many = [estimate("antithetic", known.f, known.q, 40_000, seed=seed) for seed in range(1, 9)]
    stated = np.array([variance_of(each) for each in many])
    assert abs(stated.mean() - antithetic) < 5.0 * stated.std(ddof=1) / math.sqrt(len(stated))
    assert (stated.mean() > plain) == (known is FOUNDING)


def test_the_square_as_control_variate_leaves_what_its_correlation_says():
    """rho² of exp(-z²) and z² is (1/√3 · (1/3 - 1))² / 2 / (1/√5 - 1/3) = 0.6505."""
    rho2 = (ROOT * (1.0 / 3.0 - 1.0)) ** 2 / 2.0 / ONE_DRAW
    assert abs(rho2 - 0.6505) < 5e-5
    for options in ({"controls": [(torch.square, 1.0)]}, {}):
        many = [estimate("control_variates", FOUNDING.f, FOUNDING.q, 40_000, seed=seed, **options) for seed in range(8)]
        ratio = np.array([variance_of(each) for each in many]) / ONE_DRAW
        assert abs(ratio.mean() - (1.0 - rho2)) < 5.0 * ratio.std(ddof=1) / math.sqrt(len(ratio))
        assert all(abs(each.value - ROOT) < 4.5 * each.standard_error for each in many)
        assert many[0].evidence["explained"] == pytest.approx(rho2, abs=0.02)


def test_cross_fitting_keeps_few_draws_unbiased():
    """With 24 draws and two controls a fit in sample would be biased, and out of sample it must not be."""
    controls = [(lambda z: torch.stack([z, z**2], 1), [0.0, 1.0])]
    found = many_runs("control_variates", EXPONENTIAL.f, EXPONENTIAL.q, 24, 1_000, controls=controls)
    values = np.array([float(each.value) for each in found])
    assert abs(values.mean() - EXPONENTIAL.exact) < 4.0 * values.std() / math.sqrt(len(values))


def test_controls_that_know_f_leave_nothing():
    known = INTEGRANDS["quadratic_form"]
    found = estimate("control_variates", known.f, known.q, 2_000)
    np.testing.assert_allclose(found.value, known.exact, rtol=1e-10)
    assert found.standard_error < 1e-6


def test_scrambled_points_reach_the_known_error():
    """A scrambling of 1,024 points has an error near 1.5e-5, against 1.05e-2 for so many plain draws."""
    found = estimate("quasi", FOUNDING.f, FOUNDING.q, 1_024 * 200, num_replicates=200)
    error = np.sqrt(np.square(found.evidence["replicates"] - ROOT).mean())
    assert 0.7e-5 < error < 3e-5
    assert math.sqrt(ONE_DRAW / 1_024) == pytest.approx(1.05e-2, rel=0.01)
    assert found.degrees_of_freedom == 199
    assert found.ess > 1e5 * found.num_draws


def test_the_replicates_and_not_the_draws_make_the_error():
    found = estimate("quasi", FOUNDING.f, FOUNDING.q, 32 * 64)
    means = found.evidence["replicates"]
    np.testing.assert_allclose(found.standard_error, means.std(ddof=1) / math.sqrt(32), rtol=1e-12)
    assert found.num_draws == 32 * 64


def test_points_go_on_where_they_stopped():
    once = estimate("quasi", FOUNDING.f, FOUNDING.q, 32 * 128)
    twice = estimate("quasi", FOUNDING.f, FOUNDING.q, 32 * 64, batches=2)
    np.testing.assert_allclose(twice.value, once.value, rtol=1e-13)
    assert twice.num_draws == once.num_draws


@pytest.mark.parametrize("allocation", ["proportional", "neyman"])
def test_strata_take_off_the_variance_between_them(allocation):
    """Of E[u] with K strata the variance of one draw is 1 / (12 K²)."""
    q = dist.Uniform(torch.tensor(0.0, dtype=torch.float64), torch.tensor(1.0, dtype=torch.float64))
    found = estimate("stratified", lambda u: u, q, 20_000, num_strata=10, allocation=allocation)
    used = found.num_draws - (2_000 if allocation == "neyman" else 0)
    assert found.standard_error**2 * used == pytest.approx(1.0 / 1_200.0, rel=0.05)
    assert abs(found.value - 0.5) < 4.0 * found.standard_error


def test_neyman_puts_draws_where_f_varies():
    def rare(u):
        return torch.where(u > 0.9, u * 100.0, 0.0)

    q = dist.Uniform(torch.tensor(0.0, dtype=torch.float64), torch.tensor(1.0, dtype=torch.float64))
    even = estimate("stratified", rare, q, 8_000, num_strata=10)
    found = estimate("stratified", rare, q, 8_000, num_strata=10, allocation="neyman")
    assert found.standard_error < 0.5 * even.standard_error
    assert abs(found.value - 9.5) < 4.5 * found.standard_error


def test_two_stratified_coordinates():
    q = dist.Independent(dist.Normal(torch.zeros(2, dtype=torch.float64), 1.0), 1)
    one, two = (estimate("stratified", lambda x: x.sum(-1), q, 20_000, num_dims=dims) for dims in (1, 2))
    assert two.standard_error < 0.3 * one.standard_error
    assert abs(two.value) < 4.5 * two.standard_error


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("method", ["plain", *STEERING])
def test_several_outputs_in_either_precision(method, dtype):
    q = dist.MultivariateNormal(
        torch.tensor([1.0, -1.0], dtype=dtype), torch.tensor([[1.0, 0.5], [0.5, 2.0]], dtype=dtype)
    )
    found = estimate(method, lambda x: torch.stack([x, x**2], -1), q, 8_192)
    wanted = np.array([[1.0, 2.0], [-1.0, 3.0]])
    assert found.value.shape == found.standard_error.shape == found.ess.shape == (2, 2)
    assert (np.abs(found.value - wanted) < 4.5 * found.standard_error + 1e-5).all()


@pytest.mark.parametrize("name", sorted(set(INTEGRANDS) - {"rare_event", "infinite_variance"}))
@pytest.mark.parametrize("method", ["plain", *STEERING])
def test_every_method_is_right_on_every_known_expectation(name, method):
    known = INTEGRANDS[name]
    found = estimate(method, known.f, known.q, 16_384, seed=5)
    # 45 comparisons, one in a thousand false alarms in all
    assert abs(found.value - known.exact) < 4.3 * found.standard_error + 1e-9 * abs(known.exact)


@pytest.mark.parametrize("method", ["plain", *STEERING])
def test_infinite_variance_is_flagged_by_every_method(method):
    known = INTEGRANDS["infinite_variance"]
    found = estimate(method, known.f, known.q, 100_000)
    assert any(check.passed is False and "k-hat" in check.name for check in found.checks)


@pytest.mark.parametrize("method", ["plain", *STEERING])
def test_a_rare_event_that_was_hardly_seen_is_flagged(method):
    known = INTEGRANDS["rare_event"]
    found = estimate(method, known.f, known.q, 20_000)
    assert not all(check.passed for check in found.checks)


def test_few_decisive_draws_in_strata_are_flagged():
    known = INTEGRANDS["positive_square"]
    found = estimate("stratified", known.f, known.q, 256, num_strata=128)
    assert [check.passed for check in found.checks if check.name == "degrees of freedom"] == [None]


@pytest.mark.parametrize("method", STEERING)
def test_methods_that_steer_uniform_numbers_refuse_samplers(method):
    source = SamplerSource(torch.randn)
    with pytest.raises(OptionError, match="no known function of uniform numbers"):
        choose_method(method, source, {}).start(FOUNDING.f, source, 0)


def test_wrong_names_and_options():
    source = DistributionSource(FOUNDING.q)
    with pytest.raises(UnknownNameError, match="quasi"):
        choose_method("kwasi", source, {})
    with pytest.raises(OptionError, match="strata: not an option of method 'stratified'; it has: num_strata"):
        choose_method("stratified", source, {"strata": 3})
    with pytest.raises(OptionError, match="Give them to it"):
        choose_method(METHODS["plain"](), source, {"a": 3})
    for options in ({"num_strata": 0}, {"num_dims": 2}, {"allocation": "x"}):
        with pytest.raises((OptionError, UnknownNameError)):
            choose_method("stratified", source, options).start(FOUNDING.f, source, 0)
    for controls in ([(3, 1.0)], [torch.square], [(torch.square, math.nan)]):
        with pytest.raises(OptionError, match="wanted pairs"):
            choose_method("control_variates", source, {"controls": controls}).start(FOUNDING.f, source, 0)
    for method in STEERING:
        if method != "antithetic":
            with pytest.raises(OptionError, match=r"num_draws|strata"):
                estimate(method, FOUNDING.f, FOUNDING.q, 3, **({"num_strata": 4} if method == "stratified" else {}))


@pytest.mark.parametrize("method", ["antithetic", "stratified", "quasi"])
def test_what_is_exact_but_for_rounding_is_trusted(method):
    known = INTEGRANDS["coin_loss"]
    found = estimate(method, known.f, known.q, 16_384)
    np.testing.assert_allclose(found.value, known.exact, rtol=1e-12)
    assert all(check.passed for check in found.checks)


def skewness_check(found, name="skewness of the estimate"):
    return next(check for check in found.checks if check.name == name)


def test_control_variates_are_judged_by_what_they_leave():
    """Controls that know the middle of f and not its tail leave a few draws that carry the error."""

    def f(z):
        return 20.0 * torch.tanh(z) + 20.0 * (z > 3.0)

    found = estimate("control_variates", f, EXPONENTIAL.q, 2_000, controls=[(torch.tanh, 0.0)])
    plain = estimate("plain", f, EXPONENTIAL.q, 2_000)
    assert skewness_check(plain).passed is True
    assert skewness_check(found).passed is not True


def test_residuals_are_those_of_the_other_folds():
    q = dist.Independent(dist.Normal(torch.zeros(5, dtype=torch.float64), 1.0), 1)
    found = [
        estimate("control_variates", lambda z: torch.exp(0.5 * z.sum(-1)), q, 400, seed=seed) for seed in range(20)
    ]
    assert not any(skewness_check(each).passed for each in found)


def test_more_controls_than_draws_can_bear_are_flagged():
    orders = torch.arange(1, 21)
    controls = [(lambda z: torch.cos(z[:, None] * orders), np.exp(-0.5 * orders.numpy() ** 2))]
    for count, passed in ((100, None), (4_000, True)):
        found = estimate("control_variates", lambda z: torch.sin(z) + z**2 / 3, FOUNDING.q, count, controls=controls)
        flagged = [check.passed for check in found.checks if check.name == "control variates"]
        assert flagged == ([None] if passed is None else [])


@pytest.mark.parametrize("method", ["plain", *STEERING])
def test_a_thousand_draws_of_a_bounded_function_are_trusted(method):
    found = estimate(method, FOUNDING.f, FOUNDING.q, 1_000)
    assert all(check.passed for check in found.checks), found.checks


@pytest.mark.parametrize(
    ("method", "num_draws", "options"),
    [("antithetic", 401, {}), ("stratified", 1_024, {}), ("stratified", 2_048, {"num_strata": 512})],
)
def test_the_few_draws_behind_an_unbounded_function_are_seldom_trusted(method, num_draws, options):
    """Before, most of these runs passed, and 86 % of the intervals of those held the truth."""
    found = many_runs(method, EXPONENTIAL.f, EXPONENTIAL.q, num_draws, 100, **options)
    assert np.mean([all(check.passed for check in each.checks) for each in found]) < 0.25


@pytest.mark.parametrize(("num_replicates", "passed"), [(4, None), (8, None), (32, True)])
def test_few_replicates_do_not_show_their_skewness(num_replicates, passed):
    found = estimate("quasi", FOUNDING.f, FOUNDING.q, 4_096, num_replicates=num_replicates)
    assert skewness_check(found, "skewness over replicates").passed is passed


def test_moments_within_strata_are_those_about_their_own_means():
    strata, random = Strata(3, 1), np.random.default_rng(5)
    cells = np.sort(random.integers(0, 3, 600))
    values = random.gamma(2.0, size=600) * 1e-3 + 100.0 * cells
    for part in np.split(np.arange(600), [150, 155, 420]):
        strata.add(torch.as_tensor(cells[part]), torch.as_tensor(values[part]))
    counts, mean, variance, central = strata.moments()
    for cell in range(3):
        own = values[cells == cell]
        assert counts[cell] == len(own)
        np.testing.assert_allclose([mean[cell], variance[cell]], [own.mean(), own.var(ddof=1)], rtol=1e-8)
        wanted = [((own - own.mean()) ** order).mean() for order in range(2, 7)]
        np.testing.assert_allclose(central[:, cell], wanted, rtol=1e-6)


def test_a_wrong_mean_of_a_control_is_noticed():
    normal = dist.Normal(0.0, 1.0)
    right, wrong = (
        expect(torch.exp, normal, 10_000, method="control_variates", controls=[(lambda z: z, mean)], seed=1)
        for mean in (0.0, 1.0)
    )
    named = [{check.name: check.passed for check in found.checks} for found in (right, wrong)]
    assert named[0]["means of the controls"] is True
    assert named[1]["means of the controls"] is False
    assert "exact mean of that control" in str(wrong)
