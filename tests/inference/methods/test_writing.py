"""Approximations written into guides: the guide's density is the approximation's, whatever its order of latents."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import guides
from ppl_models.inference.methods import Mixture, Normal, Points
from ppl_models.inference.methods.normals import component_densities, mixture_density
from ppl_models.inference.methods.writing import write
from ppl_models.program import build_program


def model():
    pyro.sample("b", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    pyro.sample("a", dist.LogNormal(0.0, 1.0))
    pyro.sample("c", dist.Normal(0.0, 1.0))


def mixture(dim, count, *, diagonal):
    rng = np.random.default_rng(0)
    normals = []
    for _ in range(count):
        root = np.abs(rng.standard_normal(dim)) + 0.1 if diagonal else rng.standard_normal((dim, dim))
        normals.append(Normal(rng.standard_normal(dim), root, 0.0, 0))
    weights = np.arange(1.0, count + 1.0)
    return Mixture(weights / weights.sum(), tuple(normals))


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
@pytest.mark.parametrize("backwards", [False, True])
def test_a_mixture(covariance, backwards):
    program = build_program(model, {})
    found = mixture(4, 3, diagonal=covariance == "diagonal")
    points = np.random.default_rng(1).standard_normal((20, 4))
    wanted = mixture_density(found.weights, component_densities(found.normals, points))
    with program.isolated(seed=1):
        guide = guides.make("mixture", program.model, num_components=3, covariance=covariance)
        guide()
        names = list(guide._unconstrained_shapes)
        if backwards:
            guide._unconstrained_shapes = {name: guide._unconstrained_shapes[name] for name in reversed(names)}
        write(guide, program, found)
        order = np.concatenate([np.arange(4)[program.slices[name][0]] for name in guide._unconstrained_shapes])
        density = guide.get_posterior().log_prob(torch.as_tensor(points[:, order]))
    np.testing.assert_allclose(density.detach(), wanted, rtol=1e-10)


def test_a_normal():
    program = build_program(model, {})
    (normal,) = mixture(4, 1, diagonal=False).normals
    with program.isolated(seed=1):
        guide = guides.make("full_rank", program.model)
        guide()
        write(guide, program, normal)
        posterior = guide.get_posterior()
    np.testing.assert_allclose(posterior.mean.detach(), normal.mean, rtol=1e-10)
    np.testing.assert_allclose(posterior.covariance_matrix.detach(), normal.root @ normal.root.T, rtol=1e-10)


def test_points():
    program = build_program(model, {})
    points = np.random.default_rng(1).standard_normal((7, 4))
    with program.isolated(seed=1):
        guide = guides.make("particles", program.model, num_particles=7)
        guide()
        write(guide, program, Points(points))
        np.testing.assert_array_equal(guide.particles.detach(), points)
