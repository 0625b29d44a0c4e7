"""Quadrature against closed forms."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy.integrate import quad

from ppl_models.errors import OptionError
from ppl_models.inference.by_datum.grid import grid_posteriors
from ppl_models.inference.by_datum.normals import Normals
from ppl_models.inference.by_datum.target import DatumTarget
from ppl_models.program import build_program
from tests.inference.by_datum.linear_gaussian import Exact, model, rows
from tests.inference.by_datum.test_nuts import folded


def test_two_latents_against_the_closed_form():
    x = rows(5, seed=4)
    exact = Exact(x)
    narrow = Normals.diagonal(exact.mean + 0.1, torch.full_like(exact.mean, 0.2))
    program = build_program(model, {"x": x})
    with program.isolated(seed=0, num_threads=1), torch.no_grad():
        found = grid_posteriors(DatumTarget(program), narrow, exact.mean[None].numpy() + np.zeros((2, 1, 1)))
    covariance = exact.covariance.numpy()
    sd = np.sqrt(np.diagonal(covariance))
    assert np.allclose(found.log_evidence, exact.log_evidence, rtol=1e-9)
    assert found.error.max() < 1e-6
    assert np.allclose(found.mean, exact.mean.numpy(), rtol=1e-8, atol=1e-8)
    assert np.allclose(found.sd, sd, rtol=1e-8)
    assert np.allclose(found.correlation, covariance[0, 1] / sd.prod(), rtol=1e-8)
    wanted = exact.divergence(exact.mean + 0.1, torch.eye(2, dtype=torch.float64) * 0.04)
    assert np.allclose(found.divergence, wanted, rtol=1e-6)


def test_two_modes_of_one_latent_though_the_draws_show_one():
    x = torch.tensor([1.5, 3.0], dtype=torch.float64)
    program = build_program(folded, {"x": x})
    one_mode = np.tile(np.array([1.2, 2.6])[:, None], (3, 1, 1)) + np.array([-0.1, 0.0, 0.1])[:, None, None]
    with program.isolated(seed=0, num_threads=1), torch.no_grad():
        found = grid_posteriors(DatumTarget(program), None, one_mode)

    def joint(z, y):
        return np.exp(-0.5 * z**2 - 0.5 * ((y - abs(z)) / 0.4) ** 2) / (2.0 * np.pi * 0.4)

    wanted = [np.log(2.0 * quad(joint, 0.0, 10.0, args=(y,), epsabs=1e-14)[0]) for y in x.tolist()]
    # the kink at zero makes the rule's error fall with the square of the step
    assert np.allclose(found.log_evidence, wanted, atol=1e-5)
    assert np.allclose(found.mean, 0.0, atol=1e-3)
    assert np.isnan(found.divergence).all()


def test_a_narrow_posterior_far_out_in_the_prior():
    def sharp(x):
        with pyro.plate("datum", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x), dtype=x.dtype), 1.0))
            pyro.sample("x", dist.Normal(z, 1e-3), obs=x)

    x = torch.tensor([2.5, -1.0], dtype=torch.float64)
    program = build_program(sharp, {"x": x})
    draws = x.numpy()[None, :, None] + 1e-3 * np.array([-1.0, 0.0, 1.0])[:, None, None]
    with program.isolated(seed=0, num_threads=1), torch.no_grad():
        found = grid_posteriors(DatumTarget(program), None, draws)
    wanted = torch.distributions.Normal(0.0, np.sqrt(1.0 + 1e-6)).log_prob(x).numpy()
    assert np.allclose(found.log_evidence, wanted, rtol=1e-7)


def test_three_latents_are_refused():
    def three(x):
        with pyro.plate("datum", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x), 3, dtype=x.dtype), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z.sum(-1), 1.0), obs=x)

    program = build_program(three, {"x": torch.zeros(2, dtype=torch.float64)})
    with program.isolated(seed=0, num_threads=1), torch.no_grad(), pytest.raises(OptionError, match="3 latents"):
        grid_posteriors(DatumTarget(program), None, np.zeros((2, 2, 3)))


def test_two_narrow_modes_that_coarse_points_see_one_of():
    sd = 0.03

    def squared(x):
        with pyro.plate("datum", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x), 2, dtype=x.dtype), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(torch.stack([z[..., 0] ** 2, z[..., 1]], -1), sd).to_event(1), obs=x)

    x = torch.tensor([[1.3, 0.2], [1.1, -0.7], [1.7, 0.9]], dtype=torch.float64)
    program = build_program(squared, {"x": x})
    root, noise = np.sqrt(x[:, 0].numpy()), np.random.default_rng(1).normal(size=(400, 3, 2))
    signs = np.where(np.arange(400) % 4, 1.0, -1.0)[:, None]  # points that are no mirror images
    draws = np.stack([signs * (root + sd / (2.0 * root) * noise[..., 0]), x[:, 1].numpy() + sd * noise[..., 1]], -1)
    with program.isolated(seed=0, num_threads=1), torch.no_grad():
        found = grid_posteriors(DatumTarget(program), None, draws)
    other = torch.distributions.Normal(0.0, np.sqrt(1.0 + sd**2)).log_prob(x[:, 1]).numpy()
    density = np.log(2.0) - 0.5 * root**2 - 0.5 * np.log(2.0 * np.pi) - np.log(2.0 * root) + other
    # each mode is half of it; what is wanted is Laplace's approximation, off by the order of the variance
    assert np.allclose(found.log_evidence, density, atol=0.01)
    assert np.allclose(found.mean[:, 0], 0.0, atol=0.01)
