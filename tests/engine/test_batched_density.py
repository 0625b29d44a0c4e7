"""The log density of many points at once: eager's, point by point, whatever way it is computed."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from closed_forms import DATA, EVIDENCE, log_posterior, regression

import ppl_models as ppl
from ppl_models.catalogue.registry import AUTOENCODERS
from ppl_models.engine import batched_density as module
from ppl_models.engine import batched_gradient
from ppl_models.engine.density import eager_gradient
from ppl_models.errors import CaptureError
from ppl_models.inference.private import private_copy
from ppl_models.program import build_program


def points_of(program, count, spread=0.3):
    generator = torch.Generator().manual_seed(5)
    noise = spread * torch.randn(count, program.num_dims, dtype=torch.float64, generator=generator)
    return noise.to(program.dtype)


def by_point(program, points):
    found = [eager_gradient(program)(point) for point in points]
    return torch.stack([value for value, _ in found]), torch.stack([slope for _, slope in found])


def compared(program, points, count):
    with program.isolated(seed=0):
        values, gradients = batched_gradient(program, count)(points)
        wanted, slopes = by_point(program, points)
    torch.testing.assert_close(values, wanted, rtol=1e-9, atol=1e-9)
    scale = slopes.abs().max().clamp_min(1.0)
    torch.testing.assert_close(gradients / scale, slopes / scale, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.exhaustive if name in AUTOENCODERS[::2] else ()) for name in ppl.names()],
)
def test_catalogue_problems(name):
    problem = ppl.load(name)
    program = build_program(private_copy(problem.model, {}, torch.float64), problem.data)
    compared(program, points_of(program, 3), 3)


def test_the_closed_form():
    program = build_program(regression, DATA)
    points = points_of(program, 20, 2.0)
    with program.isolated(seed=0):
        values, _ = batched_gradient(program, 20)(points)
    torch.testing.assert_close(values, log_posterior(points) + EVIDENCE, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("count", [1, 2, 5, 7, 8, 100])
def test_points_may_come_in_any_number(count):
    program = build_program(regression, DATA)
    compared(program, points_of(program, 7), count)


@pytest.mark.parametrize("numbers", [1, 6, 12, 18, 30, 1_000])
def test_chunks_of_uneven_length(numbers, monkeypatch):
    monkeypatch.setattr(module, "CHUNK_NUMBERS", numbers)  # one point holds 6
    program = build_program(regression, DATA)
    compared(program, points_of(program, 7), 7)


def test_float32_is_kept():
    program = build_program(regression, DATA, dtype=torch.float32)
    with program.isolated(seed=0):
        values, gradients = batched_gradient(program, 3)(points_of(program, 3))
    assert values.dtype == gradients.dtype == torch.float32


def branching(y):
    """Reads a value in Python, which neither a trace nor vmap knows."""
    loc = pyro.sample("loc", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    scale = 1.0 if float(loc[0]) > 0.0 else 2.0
    with pyro.plate("row", len(y)):
        pyro.sample("y", dist.Normal(loc.sum(), scale), obs=y)


def test_branches_on_values_are_run_point_by_point():
    program = build_program(branching, {"y": torch.ones(3)})
    points = points_of(program, 6)
    assert set((points[:, 0] > 0.0).tolist()) == {True, False}
    compared(program, points, 6)


def factored(y):
    """A correlation of `r`: no Cholesky factor beyond one."""
    r = pyro.sample("r", dist.Normal(0.0, 0.1))
    matrix = torch.eye(2) + r * torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    factor = torch.linalg.cholesky(matrix)
    pyro.sample("y", dist.MultivariateNormal(torch.zeros(2), scale_tril=factor), obs=y)


def branching_factored(y):
    r = pyro.sample("r", dist.Normal(0.0, 0.1))
    assert float(r) < 100.0
    matrix = torch.eye(2) + r * torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    pyro.sample("y", dist.MultivariateNormal(torch.zeros(2), covariance_matrix=matrix), obs=y)


@pytest.mark.parametrize("way", ["traced", "vmap", "one by one"])
def test_a_point_without_cholesky_factor_has_nan(way, monkeypatch):
    if way == "vmap":

        def refuse(*_args, **_kwargs):
            raise CaptureError("not today")

        monkeypatch.setattr(module, "capture", refuse)
    program = build_program(branching_factored if way == "one by one" else factored, {"y": torch.ones(2)})
    points = torch.tensor([[0.2], [3.0], [-0.5], [-1.5], [0.9]], dtype=torch.float64)
    good = torch.tensor([True, False, True, False, True])
    with program.isolated(seed=0):
        for count in (2, 5):
            values, gradients = batched_gradient(program, count)(points)
            wanted, slopes = by_point(program, points[good])
            assert torch.equal(torch.isnan(values), ~good)
            torch.testing.assert_close(values[good], wanted, rtol=1e-10, atol=1e-10)
            torch.testing.assert_close(gradients[good], slopes, rtol=1e-10, atol=1e-10)


def test_a_model_that_draws_is_not_frozen():
    """Numbers that a model draws as its density is computed are new at every call."""

    def model(y):
        loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
        with pyro.plate("row", len(y)):
            pyro.sample("y", dist.Normal(loc + torch.randn(()), 1.0), obs=y)

    program = build_program(model, {"y": torch.ones(3)})
    with program.isolated(seed=0):
        gradient = batched_gradient(program, 4)
        values, _ = gradient(torch.zeros(4, 1, dtype=torch.float64))
        again, _ = gradient(torch.zeros(4, 1, dtype=torch.float64))
    assert len({*values.tolist(), *again.tolist()}) == 8


def test_nothing_of_the_world_is_changed():
    program = build_program(regression, DATA)
    points = points_of(program, 4)
    kept = points.clone()
    with program.isolated(seed=0):
        before = torch.get_rng_state()
        values, _ = batched_gradient(program, 4)(points)
        assert torch.equal(torch.get_rng_state(), before)
        assert torch.is_grad_enabled()
        assert not values.requires_grad
    assert torch.equal(points, kept)
