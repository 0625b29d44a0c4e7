"""Where an evidence by annealing or importance sampling must not be believed, and sums over many data."""

import math
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from ppl_models.inference.evidence import importance_evidence
from ppl_models.inference.evidence.annealing_checks import weight_checks
from ppl_models.inference.evidence.annealing_options import AnnealingOptions
from ppl_models.inference.evidence.bidirectional import ais_evidence, bidirectional_evidence
from ppl_models.inference.evidence.weight_means import log_mean, meeting
from ppl_models.program import build_program
from tests.inference.evidence import tempered_models as models
from tests.inference.evidence.test_annealing import Z, z_score


def lognormal(num_draws: int, spread: float, num_data: int = 1) -> np.ndarray:
    """Log weights of mean one, shape (draw, datum)."""
    return spread * np.random.default_rng(1).standard_normal((num_draws, num_data)) - 0.5 * spread**2


def two_modes(y):
    """Of each datum the same: four fifths at -6, one fifth at 6."""
    with pyro.plate("datum", len(y)):
        z = pyro.sample("z", dist.Normal(0.0, 4.0))
        left, right = (dist.Normal(place, 0.3).log_prob(z) + math.log(share) for place, share in ((-6, 0.8), (6, 0.2)))
        pyro.factor("modes", torch.logaddexp(left, right))


def needle():
    """A mode that the prior reaches never, with nearly all of the evidence."""
    z = pyro.sample("z", dist.Normal(0.0, 5.0))
    pyro.factor("f", torch.logaddexp(dist.Normal(0.0, 1.0).log_prob(z), dist.Normal(20.0, 0.02).log_prob(z) + 9.0))


def unsure(found) -> set[str]:
    return {check.name for check in found.checks if check.passed is not True}


def test_a_mode_that_both_runs_miss_does_not_pass_without_draws():
    found = bidirectional_evidence(build_program(needle, {}), AnnealingOptions(num_temperatures=40, seed=1))
    density = dist.Normal(0.0, 5.0).log_prob(torch.tensor(20.0)) + 9.0
    assert float(found.upper) < float(density) - 1.0  # what is called upper is below the truth
    assert unsure(found) == {"reverse starts"}
    assert "no bound" in repr(found)
    assert "at most" not in repr(found)


def test_one_start_for_all_reverse_chains_gives_the_forward_error():
    rng, count = np.random.default_rng(0), 100
    y = torch.zeros(count)
    ones = np.where(rng.random(count) < 0.8, -6.0, 6.0) * 16.0 / 16.09 + 0.3 * rng.standard_normal(count)
    options = AnnealingOptions(by_datum=True, num_temperatures=40, num_chains=40, seed=1)
    found = bidirectional_evidence(build_program(two_modes, {"y": y}), options, draws={"z": torch.as_tensor(ones)})
    truth = float(dist.Normal(0.0, math.sqrt(16.09)).log_prob(torch.tensor(6.0)))
    # the spread of 100 runs is known to 7 %; from both runs together it is 2.8 times the stated error
    assert np.std(found.log_evidence - truth) < 1.4 * found.standard_error.mean()
    assert abs(z_score(found.log_evidence - truth, 0.0)) < Z
    assert np.isnan(found.upper_error).all()
    assert {"reverse starts", "forward against reverse"} <= unsure(found)


@pytest.mark.parametrize(
    ("num_chains", "spread", "passed"), [(64, 0.4, True), (64, 1.3, None), (16, 0.8, None), (64, 2.5, False)]
)
def test_few_effective_chains_do_not_pass(num_chains, spread, passed):
    check = weight_checks("forward", lognormal(num_chains, spread))[0]
    assert check.passed is passed
    assert bool(check.advice) is (passed is not True)


def test_a_sum_over_data_is_not_biased(monkeypatch):
    """Twenty thousand means of 100 weights are five standard errors below the truth together, if nothing is done."""
    weights = lognormal(100, 0.7, 20_000)
    monkeypatch.setattr(importance_evidence, "draw_weights", lambda *_: (weights, np.ones(20_000)))
    fit = cast("Any", SimpleNamespace(has_density=True, guide_name="own", program=SimpleNamespace(batched=False)))
    for by_datum in (False, True):
        found = importance_evidence.importance_evidence(fit, num_draws=100, by_datum=by_datum)
        lower = log_mean(weights)[0]
        np.testing.assert_allclose(found.lower, lower if by_datum else lower.sum(), rtol=1e-12)
        assert lower.sum() < -Z * found.total_error
        assert abs(found.total) < Z * found.total_error


def test_annealing_takes_the_same_bias_out():
    program, _ = models.normals_program(5)
    found = ais_evidence(program, AnnealingOptions(by_datum=True, temperatures=[0.0, 0.1, 1.0], seed=2))
    lower, error = log_mean(found.log_weights)
    np.testing.assert_allclose(found.lower, lower, rtol=1e-12)
    np.testing.assert_allclose(found.log_evidence, lower + 0.5 * error**2, rtol=1e-12)


def test_where_two_runs_meet_is_not_biased():
    """Gamma weights: those of the reverse run are the same, biased by their size."""
    rng = np.random.default_rng(0)
    forward, reverse = (np.log(rng.gamma(shape, size=(8, 12_000)) / 0.5) for shape in (0.5, 1.5))
    assert abs(z_score(meeting(forward, reverse)[0], 0.0)) < Z


def test_bounds_are_printed_with_their_errors():
    program, y = models.normals_program(2)
    options = AnnealingOptions(by_datum=True, num_temperatures=10, num_chains=64, seed=2)
    found = bidirectional_evidence(program, options, draws=models.normals_posterior(y, 64), exact=True)
    lines = [line for line in repr(found).splitlines() if "in expectation" in line]
    for line, bound, error in zip(
        lines, (found.lower, found.upper), (found.lower_error, found.upper_error), strict=True
    ):
        assert f"{bound.sum():.4f} ± {np.hypot(*error):.2g} nats" in line
