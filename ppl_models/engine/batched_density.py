"""The log density of many points at once, without a compiler: for a first look at a target."""

import warnings
from collections.abc import Callable

import torch

from ppl_models.engine.density import eager_gradient
from ppl_models.engine.graph import capture
from ppl_models.errors import CaptureError
from ppl_models.program import Program
from ppl_models.program.batching import NOT_VECTORISABLE, OutOfPlaceRandomness

CHUNK_NUMBERS = 4_000_000
"""How many numbers one vectorised call may hold, roughly."""

BatchedGradient = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""Takes unconstrained vectors, shape (point, dim); returns log densities in nats, (point,), and gradients like them."""


def batched_gradient(program: Program, count: int) -> BatchedGradient:
    """A program's log density and gradient at `count` points at once. Call it, and what it returns, in its world.

    The operations are traced once and then run without Python's and Pyro's overhead; a model that cannot be traced is
    run under vmap, and one that knows no further axis point by point. A point at which the model fails (a Cholesky
    factor of what is not positive definite) has NaN there.
    """
    held = max(1, program.num_dims + sum(site.shape.numel() for site in program.sites.observed))
    size = max(1, min(count, CHUNK_NUMBERS // held))
    together = torch.func.vmap(torch.func.grad_and_value(program.log_density), randomness="different")

    def vectorised(points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad(), OutOfPlaceRandomness(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, about what vmap loops over
            gradients, values = together(points)
        return values, gradients

    first = torch.zeros(size, program.num_dims, dtype=program.dtype)
    try:
        graph = capture(
            vectorised, (), (first,), tuple(program.arguments.tensors().values()), other_streams=(first + 0.1,)
        )
    except CaptureError:
        graph = None
    if graph is not None and not graph.random:
        module, fixed = graph.module, graph.fixed

        def traced(points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            with torch.no_grad():
                values, gradients = module(points, *fixed)
            return values, gradients

        return lambda points: _in_chunks(traced, points, size)
    try:
        vectorised(first[:2])
    except NOT_VECTORISABLE:
        return lambda points: _one_by_one(program, points)

    def checked(points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        try:
            return vectorised(points)
        except NOT_VECTORISABLE:  # at one of the points
            return _one_by_one(program, points)

    return lambda points: _in_chunks(checked, points, size)


def _in_chunks(function: BatchedGradient, points: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    values, gradients = [], []
    for start in range(0, len(points), size):
        part = points[start : start + size]
        missing = size - len(part)
        whole = torch.cat([part, part[-1:].expand(missing, -1)]) if missing else part
        value, gradient = function(whole.contiguous())
        values.append(value[: len(part)])
        gradients.append(gradient[: len(part)])
    return torch.cat(values), torch.cat(gradients)


def _one_by_one(program: Program, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    gradient = eager_gradient(program)
    values, slopes = torch.full((len(points),), torch.nan, dtype=program.dtype), torch.full_like(points, torch.nan)
    for index, point in enumerate(points):
        try:
            values[index], slopes[index] = gradient(point)
        except NOT_VECTORISABLE:
            continue  # NaN stands for it
    return values, slopes
