"""The log density as methods see it: eager's values, gradients and curvature, by whatever road, and all counted."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from closed_forms import DATA, EVIDENCE, MEAN, PRECISION, log_posterior, regression

import ppl_models as ppl
from ppl_models.catalogue.registry import AUTOENCODERS
from ppl_models.engine import Constrained, Target
from ppl_models.engine import target as module
from ppl_models.errors import CaptureError
from ppl_models.inference.private import private_copy
from ppl_models.program import build_program

NAMES = [
    # a second model with a network and thousands of latents adds nothing here but seconds
    pytest.param(name, marks=pytest.mark.exhaustive if name in AUTOENCODERS[::2] else ())
    for name in ppl.names()
]
BACKENDS = ["auto", "eager", pytest.param("native", marks=pytest.mark.native)]


def points_of(program, count):
    return 0.3 * np.random.default_rng(5).standard_normal((count, program.num_dims))


@pytest.mark.parametrize("backend", BACKENDS)
def test_values_gradients_and_hessian_of_a_closed_form(backend):
    program = build_program(regression, DATA)
    points = points_of(program, 7)
    with program.isolated(seed=0):
        target = Target(program, backend)
        for _ in range(2):  # the second call of a size runs what the first wrote down
            values, gradients = target(points)
        hessian = target.hessian(points[0])
    wanted = log_posterior(torch.as_tensor(points)).numpy() + EVIDENCE
    np.testing.assert_allclose(values, wanted, rtol=1e-12)
    np.testing.assert_allclose(gradients, -(points - MEAN.numpy()) @ PRECISION.numpy(), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(hessian, -PRECISION.numpy(), rtol=1e-10, atol=1e-10)
    assert target.evaluations == 7 + 7 + 2 * 2


@pytest.mark.parametrize("name", NAMES)
def test_catalogue_problems_agree_with_eager(name):
    problem = ppl.load(name)
    program = build_program(private_copy(problem.model, {}, torch.float64), problem.data)
    points = points_of(program, 5)
    with program.isolated(seed=0):
        found, wanted = Target(program), Target(program, "eager")
        for _ in range(2):
            for ours, theirs in zip(found(points), wanted(points), strict=True):
                np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9 * np.abs(theirs).max())
        vectors = np.random.default_rng(1).standard_normal(points.shape)
        products = found.hessian_products(points, vectors)
        step = 1e-5
        ahead, behind = wanted(points + step * vectors)[1], wanted(points - step * vectors)[1]
    differences = (ahead - behind) / (2 * step)
    np.testing.assert_allclose(products, differences, rtol=1e-4, atol=1e-5 * np.abs(differences).max())


def test_large_batches_are_cut():
    program = build_program(regression, DATA)
    points = points_of(program, 50)
    with program.isolated(seed=0):
        target = Target(program)
        whole = target(points)
        target._most = 7
        for ours, theirs in zip(target(points), whole, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def covariance_model(y):
    scale = pyro.sample("scale", dist.Normal(0.0, 1.0))
    covariance = torch.stack([torch.stack([scale, scale * 0]), torch.stack([scale * 0, scale * 0 + 1.0])])
    pyro.sample("y", dist.MultivariateNormal(torch.zeros(2), covariance), obs=y)


@pytest.mark.parametrize("backend", ["auto", "eager"])
def test_points_at_which_the_model_fails_are_nan_and_the_others_are_not(backend):
    program = build_program(covariance_model, {"y": torch.zeros(2)}, seed=3)
    with program.isolated(seed=0):
        values, gradients = Target(program, backend)(np.array([[0.5], [-0.5], [1.5]]))
    assert np.isfinite(values[[0, 2]]).all()
    assert not np.isfinite(values[1])
    assert np.isfinite(gradients[[0, 2]]).all()


def branching(y):
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    if mean > 0.0:  # reads a value: cannot be written down
        pyro.sample("y", dist.Normal(mean, 1.0), obs=y)
    else:
        pyro.sample("y", dist.Normal(mean, 2.0), obs=y)


def test_models_that_cannot_be_traced_are_run():
    program = build_program(branching, {"y": torch.tensor(0.3)})
    points = np.array([[0.5], [-0.5]])
    with program.isolated(seed=0):
        target = Target(program)
        found, wanted = target(points), Target(program, "eager")(points)
        curvature = target.hessian(points[0])
    assert target.backend == "vmap"
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    np.testing.assert_allclose(curvature, [[-2.0]], rtol=1e-6)


def test_a_wrong_graph_is_not_used(monkeypatch):
    def refuse(*_):
        raise CaptureError("planted")

    program = build_program(regression, DATA)
    monkeypatch.setattr(module.Target, "_prove", refuse)
    with program.isolated(seed=0):
        assert Target(program).backend == "vmap"


@pytest.mark.parametrize("name", NAMES)
def test_values_alone_and_constrained_values(name):
    problem = ppl.load(name)
    program = build_program(private_copy(problem.model, {}, torch.float64), problem.data)
    points = points_of(program, 5)
    with program.isolated(seed=0), torch.no_grad():
        target, constrained = Target(program), Constrained(program)
        for _ in range(2):
            np.testing.assert_allclose(target.values(points), target(points)[0], rtol=1e-10)
            found = constrained(points)
        for row, point in zip(found, torch.as_tensor(points), strict=True):
            wanted = torch.cat([value.reshape(-1) for value in program.constrain(point).values()])
            np.testing.assert_allclose(row, wanted.numpy(), rtol=1e-12)


def test_points_without_a_density_have_minus_infinity():
    program = build_program(covariance_model, {"y": torch.zeros(2)}, seed=3)
    with program.isolated(seed=0):
        assert np.isneginf(Target(program).values(np.array([[0.5], [-0.5]]))[1])
