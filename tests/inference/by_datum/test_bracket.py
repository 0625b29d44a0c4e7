"""The bracket around log p(x) of each datum."""

import numpy as np
import torch
from scipy.stats import norm

from ppl_models.inference.by_datum.bracket import bracket
from ppl_models.inference.by_datum.normals import Normals
from ppl_models.inference.by_datum.target import DatumTarget
from ppl_models.program import build_program
from tests.inference.by_datum.linear_gaussian import Exact, model, rows

CHANCE = 0.001


def bracketed(x, width, *, exact_draws=True):
    exact = Exact(x)
    program = build_program(model, {"x": x})
    normals = Normals.diagonal(exact.mean + 0.3, torch.full_like(exact.mean, width))
    posterior = torch.distributions.MultivariateNormal(exact.mean, exact.covariance)
    with program.isolated(seed=1, num_threads=1), torch.no_grad():
        draws = posterior.sample((1, 400)) if exact_draws else normals.points(torch.randn(400, *exact.mean.shape))[None]
        return bracket(
            DatumTarget(program), normals, draws.double().numpy(), num_temperatures=20, num_chains=64, seed=2
        )


def test_bounds_hold_the_closed_form_between_them():
    x = rows(10, seed=6)
    found, truth = bracketed(x, 0.5), Exact(x).log_evidence
    limit = norm.isf(CHANCE / 30)
    assert (found.lower - truth < limit * found.lower_error).all()
    assert (truth - found.upper < limit * found.upper_error).all()
    assert (np.abs(found.log_evidence - truth) < limit * found.log_evidence_error).all()
    assert np.abs(found.upper - found.lower).mean() < 0.2


def test_a_start_far_from_the_posterior_widens_it():
    x = rows(10, seed=6)
    near, far = bracketed(x, 0.5), bracketed(x, 0.02)
    assert far.lower_error.mean() > 2.0 * near.lower_error.mean()


def test_reverse_starts_that_are_no_posterior_draws_break_the_upper_bound():
    x = rows(10, seed=6)
    found, truth = bracketed(x, 0.1, exact_draws=False), Exact(x).log_evidence
    sound = bracketed(x, 0.1)
    assert (sound.upper - truth).mean() > (found.upper - truth).mean() + 0.1
