"""Annealed importance sampling and its reverse against closed forms; what they get wrong is seen."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy.stats import binom, norm

import ppl_models as ppl
from ppl_models.errors import ModelError
from ppl_models.inference.evidence import annealed, hmc_transitions, tuning
from ppl_models.inference.evidence.annealing_options import AnnealingOptions
from ppl_models.inference.evidence.bidirectional import ais_evidence, bidirectional_evidence
from ppl_models.program import build_program
from tests import closed_forms
from tests.inference.evidence import tempered_models as models

NUM_RUNS = 2_000
BUDGET = 1e-4
"""Probability that a right method fails one comparison."""
Z = float(norm.isf(BUDGET / 2.0))


@pytest.fixture(scope="module")
def many():
    """Two thousand data: as many independent runs, in one call."""
    return models.normals_program(NUM_RUNS)


@pytest.fixture(scope="module")
def two_sided(many):
    program, y = many
    options = AnnealingOptions(by_datum=True, num_temperatures=30, num_chains=32, num_leapfrog=1, seed=3)
    draws = models.normals_posterior(y, 32)
    return bidirectional_evidence(program, options, draws=draws, exact=True), models.normals_truth(y)


@pytest.fixture(scope="module")
def some():
    """As many runs as an average needs."""
    return models.normals_program(300)


def covered(found, truth) -> int:
    return int(((found.interval[0] <= truth) & (truth <= found.interval[1])).sum())


def assert_covers(found, truth):
    """Between 93 and 97 % of the runs: a method at 95 % is outside with probability below 1e-4 at 2,000 runs."""
    assert binom.cdf(0.93 * NUM_RUNS, NUM_RUNS, 0.95) + binom.sf(0.97 * NUM_RUNS, NUM_RUNS, 0.95) < BUDGET
    assert 0.93 * NUM_RUNS <= covered(found, truth) <= 0.97 * NUM_RUNS


def z_score(values: np.ndarray, expected: float) -> float:
    """How far the mean of independent values is from what is expected, in standard errors."""
    return float((values.mean() - expected) / (values.std(ddof=1) / math.sqrt(len(values))))


def test_one_step_is_importance_sampling_from_the_prior():
    program, _ = models.normals_program(5)
    found = ais_evidence(program, AnnealingOptions(by_datum=True, temperatures=[0.0, 1.0], seed=2))
    again = ais_evidence(program, AnnealingOptions(by_datum=True, temperatures=[0.0, 1.0], seed=2))
    assert np.array_equal(found.log_weights, again.log_weights)
    # weights are likelihoods, which nowhere pass that at the observation itself
    assert found.log_weights.max() < -0.5 * math.log(2.0 * math.pi) - math.log(models.NOISE)
    np.testing.assert_allclose(found.lower, np.log(np.exp(found.log_weights).mean(axis=0)), rtol=1e-10)


def test_weights_are_unbiased(two_sided):
    found, truth = two_sided
    assert abs(z_score(np.exp(found.log_weights - truth).mean(axis=0), 1.0)) < Z


def test_forward_is_below_and_reverse_above_the_truth_in_expectation(many):
    program, y = many
    options = AnnealingOptions(by_datum=True, num_temperatures=10, num_chains=8, seed=6)
    found = bidirectional_evidence(program, options, draws=models.normals_posterior(y, 8), exact=True)
    assert z_score(found.lower - models.normals_truth(y), 0.0) < -Z  # few chains: the gap is wider than the errors
    assert z_score(found.upper - models.normals_truth(y), 0.0) > Z


def test_the_intervals_of_both_cover(two_sided):
    found, truth = two_sided
    assert_covers(found, truth)
    assert abs(z_score(found.log_evidence - truth, 0.0)) < Z


@pytest.mark.exhaustive
@pytest.mark.parametrize("num_temperatures", [100, 300])
def test_the_intervals_of_the_forward_run_cover(many, num_temperatures):
    program, y = many
    options = AnnealingOptions(by_datum=True, num_temperatures=num_temperatures, seed=5)
    found, truth = ais_evidence(program, options), models.normals_truth(y)
    assert_covers(found, truth)
    assert abs(z_score(np.exp(found.lower - truth), 1.0)) < Z


@pytest.mark.exhaustive
def test_the_intervals_from_own_ends_cover(many):
    program, y = many
    options = AnnealingOptions(by_datum=True, num_temperatures=60, num_chains=32, seed=4)
    assert_covers(bidirectional_evidence(program, options), models.normals_truth(y))


def test_own_ends_serve_as_posterior_draws(some):
    program, y = some
    options = AnnealingOptions(by_datum=True, num_temperatures=40, num_chains=32, seed=4)
    found = bidirectional_evidence(program, options)
    assert abs(z_score(found.log_evidence - models.normals_truth(y), 0.0)) < Z
    assert not found.config["exact"]


def test_latents_that_made_the_data_are_an_exact_draw():
    generator = torch.Generator().manual_seed(8)
    z = torch.randn(200, generator=generator, dtype=torch.float64)
    y = z + models.NOISE * torch.randn(200, generator=generator, dtype=torch.float64)
    program = build_program(models.normals, {"y": y})
    options = AnnealingOptions(by_datum=True, num_temperatures=60, num_chains=16, seed=4)
    found = bidirectional_evidence(program, options, draws={"z": z})
    assert found.config["exact"]
    assert z_score(found.upper - models.normals_truth(y), 0.0) > -Z
    assert abs(z_score(found.log_evidence - models.normals_truth(y), 0.0)) < Z


def test_posterior_draws_of_one_mode_alone_are_seen():
    def two_modes():
        z = pyro.sample("z", dist.Normal(0.0, 3.0))
        right, left = (dist.Normal(place, 0.1).log_prob(z) + math.log(share) for place, share in ((4, 0.9), (-4, 0.1)))
        pyro.factor("mode", torch.logaddexp(right, left))

    program = build_program(two_modes, {})
    truth = float(torch.distributions.Normal(0.0, math.sqrt(9.01)).log_prob(torch.tensor(4.0)))
    rng = np.random.default_rng(1)
    spread = math.sqrt(0.09 / 9.01)
    left, right = (sign * 4.0 * 9.0 / 9.01 + spread * rng.standard_normal((64, 1)) for sign in (-1.0, 1.0))
    both = np.where(rng.random((64, 1)) < 0.9, right, left)
    options = AnnealingOptions(num_temperatures=80, seed=4)
    for draws, passes in ((both, True), (left, False)):
        found = bidirectional_evidence(program, options, draws=draws, exact=True)
        check = next(check for check in found.checks if check.name == "forward against reverse")
        assert check.passed is passes
        assert abs(float(found.lower) - truth) < 1.0
    assert check.advice


def test_transitions_that_move_the_target_break_the_expectation(some, monkeypatch):
    program, y = some

    def spreading(path, states, temperature, steps, generator):
        moved, probability = hmc_transitions.transition(path, states, temperature, steps, generator)
        noise = torch.randn(moved.points.shape, dtype=torch.float64, generator=generator)
        return path.at(moved.points + 0.5 * steps.scale * noise), probability  # and no rejection for it

    monkeypatch.setattr(annealed, "transition", spreading)
    found = ais_evidence(program, AnnealingOptions(by_datum=True, num_temperatures=30, num_chains=32, seed=4))
    assert abs(z_score(np.exp(found.log_weights - models.normals_truth(y)).mean(axis=0), 1.0)) > Z


def test_a_transition_leaves_its_density_invariant():
    program, _ = models.normals_program(1)
    from ppl_models.inference.evidence.annealing_options import start_of
    from ppl_models.inference.evidence.tempered_path import TemperedPath

    count, heat = 2_000, 0.25
    precision = 1.0 + heat / models.NOISE**2
    with program.isolated(seed=0), torch.no_grad():
        path = TemperedPath(program, start_of(program, AnnealingOptions(), None), count)
        generator = torch.Generator().manual_seed(1)
        mean = heat * program.arguments.kwargs["y"] / models.NOISE**2 / precision
        noise = torch.randn(count, 1, 1, dtype=torch.float64, generator=generator)
        states = path.at(mean + noise / math.sqrt(precision))
        one = torch.ones(1, dtype=torch.float64)
        steps = hmc_transitions.Steps(0.9 * one, one[None], 4)  # long: about a third is rejected
        for _ in range(3):
            states, probability = hmc_transitions.transition(path, states, torch.tensor(heat), steps, generator)
    assert 0.05 < float(probability.mean()) < 0.9
    scaled = ((states.points - mean) * math.sqrt(precision)).numpy().ravel()
    assert abs(z_score(scaled, 0.0)) < Z
    assert abs(z_score(scaled**2, 1.0)) < Z


@pytest.mark.parametrize(
    ("model", "data", "truth"),
    [
        (models.rates, torch.tensor([[1.0, 2.0, 0.0], [5.0, 3.0, 9.0]]), models.rates_truth),
        (models.two_sites, torch.tensor([[0.0, 1.0], [2.0, -3.0], [0.5, 4.0]]).double(), models.two_sites_truth),
    ],
)
def test_constrained_latents_and_several_sites_by_datum(model, data, truth):
    program = build_program(model, {"y": data})
    found = ais_evidence(program, AnnealingOptions(by_datum=True, num_temperatures=60, seed=1))
    assert found.log_evidence.shape == truth(data).shape
    assert (np.abs(found.log_evidence - truth(data)) < 4.0 * found.standard_error).all()
    whole = ais_evidence(program, AnnealingOptions(num_temperatures=60, seed=1))
    assert abs(whole.total - truth(data).sum()) < 4.0 * whole.total_error


def test_enumerated_sites_are_summed_out():
    program = build_program(models.switched, {"y": torch.tensor(0.7)})
    found = bidirectional_evidence(program, AnnealingOptions(num_temperatures=40, seed=1))
    assert abs(found.total - models.switched_truth(0.7)) < 4.0 * found.total_error


def test_chains_without_weight_are_no_fault():
    program = build_program(models.half_line, {})
    found = ais_evidence(program, AnnealingOptions(num_temperatures=20, num_chains=2_000, seed=1))
    assert abs(found.total - math.log(0.5)) < 4.0 * found.total_error


def test_a_prior_that_misses_the_data_fails_its_checks():
    def nowhere():
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.factor("nowhere", torch.where(z > 50.0, 0.0, -math.inf))

    found = bidirectional_evidence(build_program(nowhere, {}), AnnealingOptions(num_temperatures=20, seed=1))
    assert found.total != found.total or found.total == -math.inf
    assert not found.passed
    assert "NO" in repr(found)


def test_a_path_from_a_guide_needs_few_temperatures():
    fit = ppl.fit(closed_forms.regression, closed_forms.DATA, guide="normal", backend="eager", max_steps=60, seed=1)
    options = AnnealingOptions(num_temperatures=10, seed=1)
    guided, prior = (ais_evidence(fit.program, options, fit=one) for one in (fit, None))
    assert guided.config["start"] == "guide"
    for found in (guided, prior):
        assert abs(found.total - closed_forms.EVIDENCE) < 4.0 * found.total_error
    assert guided.total_error < prior.total_error


def test_float32_gives_the_same_evidence():
    _, y = models.normals_program(20)
    program = build_program(models.normals, {"y": y.float()}, dtype=torch.float32)
    found = ais_evidence(program, AnnealingOptions(by_datum=True, num_temperatures=50, seed=1))
    assert (np.abs(found.log_evidence - models.normals_truth(y)) < 5.0 * found.standard_error).all()


def test_steps_do_not_depend_on_the_chains_of_the_run(monkeypatch):
    program, y = models.normals_program(3)
    seen = []
    original = tuning.tune
    monkeypatch.setattr(
        "ppl_models.inference.evidence.annealing_options.tune",
        lambda *arguments, **options: seen.append(original(*arguments, **options)) or seen[-1],
    )
    options = AnnealingOptions(by_datum=True, num_temperatures=20, seed=1)
    found = bidirectional_evidence(program, options, draws=models.normals_posterior(y, 64), exact=True)
    assert len(seen) == 1
    steps = seen[0].at(0.5)
    assert steps.size.shape == (3,)
    assert steps.scale.shape == (3, 1)
    assert found.config["start"] == "prior"


def test_an_improper_prior_has_no_evidence():
    def improper(y):
        z = pyro.sample("z", dist.ImproperUniform(dist.constraints.real, (), ()))
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)

    program = build_program(improper, {"y": torch.tensor(0.5)})
    with pytest.raises(ModelError, match="improper"):
        ais_evidence(program, AnnealingOptions(num_temperatures=5))
