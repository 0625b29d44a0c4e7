"""Two densities at many points: every backend gives the model's own numbers, and failing points have none."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

from ppl_models.engine.tempered import TwoEnds
from ppl_models.program import build_program

NUM_POINTS = 5


def regression(x, y):
    weights = pyro.sample("weights", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    pyro.sample("y", dist.Normal(x @ weights, 0.7).to_event(1), obs=y)


def program_and_ends():
    x = torch.tensor([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
    y = torch.tensor([0.1, 0.9, 2.2], dtype=torch.float64)
    program = build_program(regression, {"x": x, "y": y})

    def ends(flat):
        prior = dist.Normal(torch.zeros_like(flat), 1.0).log_prob(flat)
        return prior, (program.log_density(flat) - prior.sum()).reshape(1).expand(2) / 2.0

    return program, ends


def points(count, dims=2):
    return torch.randn(count, dims, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(
    "backend", ["auto", pytest.param("native", marks=[pytest.mark.native, pytest.mark.exhaustive])]
)
@pytest.mark.parametrize("count", [NUM_POINTS, 2 * NUM_POINTS + 1])
def test_backends_agree_with_the_model_itself(backend, count):
    program, ends = program_and_ends()
    with program.isolated(seed=0):
        fast, eager = (TwoEnds(program, ends, 2, NUM_POINTS, name) for name in (backend, "eager"))
        assert fast.backend in ({"traced", "native"} if backend == "auto" else {backend})
        for ours, theirs in zip(vars(fast(points(count))).values(), vars(eager(points(count))).values(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    assert fast.evaluations == count


def test_a_model_that_reads_values_runs_point_by_point():
    program, _ = program_and_ends()

    def ends(flat):
        sign = 1.0 if flat[0] > 0.0 else -1.0
        return flat.sum().reshape(1), sign * flat.square().sum().reshape(1)

    with program.isolated(seed=0):
        found = TwoEnds(program, ends, 1, NUM_POINTS)
        values = found(points(NUM_POINTS))
    assert found.backend == "eager"
    assert found.note
    expected = torch.where(points(NUM_POINTS)[:, 0] > 0.0, 1.0, -1.0) * points(NUM_POINTS).square().sum(-1)
    torch.testing.assert_close(values.second[:, 0], expected)


@pytest.mark.parametrize("backend", ["auto", "eager"])
def test_points_at_which_the_model_fails_have_no_density_and_no_slope(backend):
    program, _ = program_and_ends()

    def ends(flat):
        matrix = torch.diag(flat)
        return flat.sum().reshape(1), torch.linalg.cholesky(matrix).diagonal().log().sum().reshape(1)

    with program.isolated(seed=0):
        found = TwoEnds(program, ends, 1, 2, backend)
        values = found(torch.tensor([[1.0, 2.0], [1.0, -2.0]], dtype=torch.float64))
    assert values.second[0, 0] == pytest.approx(0.5 * math.log(2.0))
    assert values.second[1, 0] == -math.inf
    torch.testing.assert_close(values.second_slope, torch.tensor([[0.5, 0.25], [0.0, 0.0]], dtype=torch.float64))
