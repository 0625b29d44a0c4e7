"""The best normal of each datum against closed forms."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from ppl_models.inference.by_datum.best_normals import best_normals, whitened_noise
from ppl_models.inference.by_datum.normals import DIAGONAL, FULL_RANK, Normals
from ppl_models.inference.by_datum.target import DatumTarget
from ppl_models.program import build_program
from tests.inference.by_datum.linear_gaussian import Exact, model, rows

X = rows(7)


@pytest.fixture
def target():
    program = build_program(model, {"x": X})
    with program.isolated(seed=0, num_threads=1), torch.no_grad():
        yield DatumTarget(program)


def start(width=0.3, shift=1.5):
    mean = Exact(X).mean + shift
    return Normals.diagonal(mean, torch.full_like(mean, width))


def test_the_target_is_the_joint_density_of_each_datum(target):
    points = torch.randn(9, 7, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    exact = Exact(X)
    posterior = dist.MultivariateNormal(exact.mean, precision_matrix=exact.precision)
    values, slopes = target(points)
    wanted = posterior.log_prob(points) + torch.as_tensor(exact.log_evidence)
    assert torch.allclose(values, wanted, rtol=1e-10)
    assert torch.allclose(slopes, -(points - exact.mean) @ exact.precision, rtol=1e-10, atol=1e-10)
    assert target.units == ("z[0]", "z[1]")


def test_noise_is_white_exactly():
    noise = whitened_noise(64, 5, seed=3)
    assert np.allclose(noise.mean(0), 0.0, atol=1e-12)
    assert np.allclose(noise.T @ noise / len(noise), np.eye(5), atol=1e-12)


def test_the_full_rank_optimum_is_the_posterior(target):
    found = best_normals(target, start(), FULL_RANK)
    exact = Exact(X)
    assert bool(found.converged.all())
    assert torch.allclose(found.normals.mean, exact.mean, rtol=1e-5, atol=1e-5)
    assert torch.allclose(found.normals.covariance, exact.covariance.expand(7, 2, 2), rtol=1e-5)
    assert np.allclose(found.objective.numpy(), exact.log_evidence, rtol=1e-8)


def test_the_diagonal_optimum_has_the_inverse_precisions(target):
    found = best_normals(target, start(), DIAGONAL)
    exact = Exact(X)
    assert torch.allclose(found.normals.mean, exact.mean, rtol=1e-5, atol=1e-5)
    assert torch.allclose(found.normals.sd**-2, exact.precision.diagonal().expand(7, 2), rtol=1e-5)
    assert np.allclose(found.objective.numpy(), exact.log_evidence - exact.best_diagonal_gap, rtol=1e-7)


def curved(x):
    with pyro.plate("datum", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(len(x), 2, dtype=x.dtype), 1.0).to_event(1))
        pyro.sample("x", dist.Normal((3.0 * z.tanh()).sum(-1, keepdim=True) + z[..., :1] ** 2, 0.3).to_event(1), obs=x)


def test_no_step_loses_and_the_slope_vanishes_where_the_posterior_is_curved():
    x = torch.linspace(-3.0, 4.0, 12, dtype=torch.float64)[:, None]
    program = build_program(curved, {"x": x})
    begun = Normals.diagonal(torch.zeros(12, 2, dtype=torch.float64), torch.ones(12, 2, dtype=torch.float64))
    with program.isolated(seed=0, num_threads=1), torch.no_grad():
        target = DatumTarget(program)
        before = best_normals(target, begun, DIAGONAL, max_steps=0).objective
        found = best_normals(target, begun, DIAGONAL, max_steps=200, tolerance=1e-9)
        noise = torch.as_tensor(whitened_noise(128, 2, 0))[:, None]
        _, slopes = target(found.normals.points(noise))
        inside = found.normals.inside(slopes)
    assert bool((found.objective >= before).all())
    assert bool((found.objective > before + 1.0).any())
    assert bool(found.converged.all())
    # at the optimum over mean and scale the mean slope is zero, and its product with the noise is minus one
    assert inside.mean(0).abs().max() < 1e-3
    assert ((inside * noise).mean(0) + 1.0).abs().max() < 1e-3
