"""Two log densities and their gradients at many points at once: the two ends of a tempered path."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ppl_models.engine.backends import AUTO, COMPILERS, EAGER, check_backend
from ppl_models.engine.batched_density import CHUNK_NUMBERS
from ppl_models.engine.graph import Graph, capture
from ppl_models.engine.native.native import Native
from ppl_models.engine.proof import agree, largest_difference
from ppl_models.engine.protocol import Runner
from ppl_models.errors import CaptureError, first_line
from ppl_models.program import Program
from ppl_models.program.batching import NOT_VECTORISABLE, OutOfPlaceRandomness

VMAP, TRACED = "vmap", "traced"
NUM_PROOFS = 2

Ends = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""Takes one flat point, shape (dim,); returns two log densities in nats, both of shape (datum,)."""
Results = Sequence[torch.Tensor]
"""First and second log densities, shape (point, datum), and their sums' gradients, shape (point, dim)."""


@dataclass(frozen=True)
class EndValues:
    """Two log densities at some points.

    Attributes:
        first: nats, shape (point, datum); -inf where there is none.
        second: nats, shape (point, datum); -inf where there is none.
        first_slope: gradient of the sum of `first` over the data, shape (point, dim); zero where it is not finite.
        second_slope: that of `second`.
    """

    first: torch.Tensor
    second: torch.Tensor
    first_slope: torch.Tensor
    second_slope: torch.Tensor


class TwoEnds:
    """Two log densities of a program's flat vector, at many points at once.

    The operations of one call are written down once, and then run without Python's and Pyro's overhead; where that
    cannot be, the model runs under vmap, or point by point. A point at which the model fails has no density.
    Make it, and call it, inside `program.isolated()`.

    Args:
        program: the model with its data.
        ends: the two log densities of one point.
        num_data: how many terms each has.
        num_points: how many points a call will have; other numbers are cut and filled up to it.
        backend: "auto" takes native code where it is compiled already, and traced operations otherwise; "native" and
            "inductor" compile; "eager" runs the model itself.

    Attributes:
        num_dims: length of a point.
        num_data: how many terms each density has.
        evaluations: points computed so far.
        backend: what computes them.
        note: why nothing faster does; empty otherwise.
    """

    def __init__(self, program: Program, ends: Ends, num_data: int, num_points: int, backend: str = AUTO):
        check_backend(backend)
        self.program, self.num_dims, self.evaluations, self.note = program, program.num_dims, 0, ""
        held = max(1, program.num_dims + sum(site.shape.numel() for site in program.sites.observed))
        self._size = max(1, min(num_points, CHUNK_NUMBERS // held))
        self._ends, self.num_data = ends, num_data
        self.backend, self._function = self._chosen(backend, self._examples())

    def __call__(self, points: torch.Tensor) -> EndValues:
        """Values and gradients at points of shape (point, dim), on the program's device."""
        self.evaluations += len(points)
        parts = [self._whole(part) for part in points.split(self._size)]
        found = parts[0] if len(parts) == 1 else [torch.cat(part) for part in zip(*parts, strict=True)]
        first, second, *slopes = found
        values = (value.nan_to_num(-torch.inf, torch.inf, -torch.inf) for value in (first, second))
        return EndValues(*values, *(slope.nan_to_num(0.0, 0.0, 0.0) for slope in slopes))

    def _whole(self, points: torch.Tensor) -> Results:
        missing = self._size - len(points)
        whole = torch.cat([points, points[-1:].expand(missing, -1)]) if missing else points
        try:
            found = self._function(whole.contiguous())
        except NOT_VECTORISABLE:  # the model fails at one of them
            found = self._one_by_one(whole)
        return [value[: len(points)] for value in found] if missing else found

    def _examples(self, seed: int = 0) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        points = torch.randn(self._size, self.num_dims, dtype=self.program.dtype, generator=generator, device="cpu")
        return points.to(self.program.device)

    def _chosen(self, backend: str, points: torch.Tensor) -> tuple[str, Callable[[torch.Tensor], Results]]:
        if backend == EAGER:
            return EAGER, self._one_by_one
        data = tuple(self.program.arguments.tensors().values())
        try:
            graph = capture(self._vectorised, (), (points,), data, other_streams=(self._examples(1),))
            if graph.random:
                raise CaptureError("the model draws random numbers while its density is computed")
            name, function = self._compiled(graph, backend)
            self._prove(function, points)
        except CaptureError as error:
            self.note = first_line(error)
        else:
            return name, function
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._prove(self._vectorised, points)
        except (CaptureError, *NOT_VECTORISABLE) as error:
            self.note = f"{self.note}; {first_line(error)}"
            return EAGER, self._one_by_one
        return VMAP, self._vectorised

    def _compiled(self, graph: Graph, backend: str) -> tuple[str, Callable[[torch.Tensor], Results]]:
        name = Native.name if backend == AUTO else backend
        compiler = COMPILERS[name]
        missing = compiler.available()
        if name == Native.name and self.program.device.type != "cpu":
            missing = "it runs on the CPU alone"
        if not missing and (backend != AUTO or compiler.is_compiled(graph)):
            return name, self._runner(compiler.compile(graph).bind((), graph.fixed))
        if backend != AUTO:
            self.note = f"backend {backend}: {missing}"

        def traced(points: torch.Tensor) -> Results:
            with torch.no_grad():
                return graph.module(points, *graph.fixed)

        return TRACED, traced

    def _runner(self, runner: Runner) -> Callable[[torch.Tensor], Results]:
        count, data, dims = self._size, self.num_data, self.num_dims

        def compiled(points: torch.Tensor) -> Results:
            results = [points.new_empty(1, count, length) for length in (data, data, dims, dims)]
            runner.run(1, [points[None]], results)
            return [result[0] for result in results]

        return compiled

    def _vectorised(self, points: torch.Tensor) -> Results:
        with torch.no_grad(), OutOfPlaceRandomness(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, about what vmap loops over
            together: Any = torch.func.vmap(self._values_and_slopes, randomness="different")
            return together(points)

    def _values_and_slopes(self, point: torch.Tensor) -> Results:
        # Each gradient runs the model anew; what the other one needs alone is taken out of the graph.
        slopes, values = [], []
        for index in (0, 1):
            slope, value = torch.func.grad_and_value(self._end(index), has_aux=True)(point)
            slopes.append(slope)
            values.append(value[1])
        return (*values, *slopes)

    def _end(self, index: int) -> Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
        def end(point: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            terms = self._ends(point)[index]
            return terms.sum(), terms

        return end

    def _one_by_one(self, points: torch.Tensor) -> Results:
        found = [self._alone(point) for point in points]
        return [torch.stack(part) for part in zip(*found, strict=True)]

    def _alone(self, point: torch.Tensor) -> Results:
        leaf = point.detach().clone().requires_grad_(True)
        try:
            with torch.enable_grad():
                values = self._ends(leaf)
                slopes = [
                    torch.autograd.grad(value.sum(), leaf, retain_graph=True, allow_unused=True)[0]
                    if value.requires_grad
                    else None
                    for value in values
                ]
        except NOT_VECTORISABLE:
            missing = torch.full((self.num_data,), torch.nan, dtype=point.dtype, device=point.device)
            return (missing, missing, torch.zeros_like(point), torch.zeros_like(point))
        return (
            *(value.detach() for value in values),
            *(torch.zeros_like(point) if slope is None else slope for slope in slopes),
        )

    def _prove(self, function: Callable[[torch.Tensor], Results], points: torch.Tensor) -> None:
        found = function(points)
        wanted = self._one_by_one(points[:NUM_PROOFS])
        sound = torch.isfinite(torch.cat(tuple(wanted), dim=1)).all(1)  # elsewhere each fails in its own way
        for ours, theirs in zip(found, wanted, strict=True):
            ours, theirs = ours[: len(theirs)][sound], theirs[sound]
            if not agree(ours, theirs):
                raise CaptureError(f"vectorised and eager differ by {largest_difference(ours, theirs):.3g}")
