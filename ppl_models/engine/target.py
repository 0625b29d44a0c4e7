"""A log density as methods beside SVI and MCMC see it: NumPy points in, values and gradients out, all counted."""

import copy
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.fx import GraphModule

from ppl_models.engine.backends import AUTO, COMPILERS, EAGER
from ppl_models.engine.batched_density import CHUNK_NUMBERS, batched_gradient
from ppl_models.engine.density import capture_density, eager_gradient
from ppl_models.engine.graph import Graph, capture
from ppl_models.engine.native.native import Native
from ppl_models.engine.proof import agree, largest_difference
from ppl_models.engine.protocol import Runner
from ppl_models.engine.tracing import trace
from ppl_models.errors import CaptureError
from ppl_models.program import Program, map_draws
from ppl_models.program.batching import NOT_VECTORISABLE

TRACED = "traced"
"""Operations written down once and run without Pyro, under vmap: for any number of points, without a compiler."""
FALLBACK_POINTS = 64
STEP = 1e-4
"""Of the central differences that stand in for products with a Hessian that cannot be traced."""

Batched = Callable[..., Sequence[torch.Tensor]]


class Target:
    """A program's unconstrained log density at many points.

    Where the model fails at a point (a Cholesky factor of what is not positive definite), value and gradient are NaN.
    Make it, and call it, inside `program.isolated()`.

    Args:
        program: the model with its data.
        backend: "auto" takes native code where it is compiled already, and traced operations otherwise; "native"
            compiles; "eager" runs the model itself.

    Attributes:
        num_dims: length of a point.
        evaluations: points at which the gradient was computed so far; a product with the Hessian counts as two.
        backend: what computes it.
    """

    def __init__(self, program: Program, backend: str = AUTO):
        self.program = program
        self.num_dims = program.num_dims
        self.evaluations = 0
        held = max(1, program.num_dims + sum(site.shape.numel() for site in program.sites.observed))
        self._most = max(1, CHUNK_NUMBERS // held)
        self._products: Batched | None = None
        self._native: Runner | None = None
        self._graph: Graph | None = None
        self._value: Batched | None = None
        self.backend, self._gradient = self._chosen(backend)

    def __call__(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log densities in nats, shape (point,), and their gradients, shape (point, dim), at points (point, dim)."""
        self.evaluations += len(points)
        tensor = self._tensor(points)
        try:
            parts = [self._gradient(part) for part in tensor.split(self._most)]
        except NOT_VECTORISABLE:
            parts = [self._alone(point[None]) for point in tensor]
        values, gradients = (torch.cat(found).double().cpu().numpy() for found in zip(*parts, strict=True))
        return values, gradients

    def values(self, points: np.ndarray) -> np.ndarray:
        """Log densities in nats, shape (point,), at points (point, dim); -inf where there is none."""
        if self._graph is None:
            return np.nan_to_num(self(points)[0], nan=-np.inf, posinf=np.inf, neginf=-np.inf)
        self._value = self._value or _Vectorised(_first_result(self._graph))
        parts = [self._value(part)[0] for part in self._tensor(points).split(self._most)]
        return torch.cat(parts).nan_to_num(-torch.inf, torch.inf, -torch.inf).double().cpu().numpy()

    def at(self, point: np.ndarray) -> tuple[float, np.ndarray]:
        """Log density in nats and gradient, shape (dim,), at one point of shape (dim,)."""
        values, gradients = self(point[None])
        return float(values[0]), gradients[0]

    def hessian_products(self, points: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        """The Hessian of the log density at each point times a vector of its own; all of shape (point, dim)."""
        self.evaluations += 2 * len(points)
        if self._products is None:
            self._products = self._traced_products()
        size = max(1, self._most // 2)
        pairs = zip(self._tensor(points).split(size), self._tensor(vectors).split(size), strict=True)
        return torch.cat([self._products(*pair)[0] for pair in pairs]).double().cpu().numpy()

    def hessian(self, point: np.ndarray) -> np.ndarray:
        """The Hessian of the log density at one point, shape (dim, dim), symmetric."""
        eye = np.eye(self.num_dims)
        found = self.hessian_products(np.broadcast_to(point, eye.shape), eye)
        return 0.5 * (found + found.T)

    def _tensor(self, values: np.ndarray) -> torch.Tensor:
        return torch.tensor(np.asarray(values), dtype=self.program.dtype, device=self.program.device)

    def _chosen(self, backend: str) -> tuple[str, Batched]:
        if backend == EAGER:
            return EAGER, self._one_by_one
        try:
            graph = capture_density(self.program)
            native = self._compiled(graph, backend)
            if native is not None:
                self._prove(native)
                return Native.name, native
            traced = _Vectorised(graph)
            self._prove(traced)
        except (CaptureError, *NOT_VECTORISABLE):
            return "vmap", batched_gradient(self.program, min(FALLBACK_POINTS, self._most))
        self._graph = graph
        return TRACED, traced

    def _compiled(self, graph: Graph, backend: str) -> Batched | None:
        native = COMPILERS[Native.name]
        if native.available() is not None or (backend == AUTO and not native.is_compiled(graph)):
            return None
        self._native = native.compile(graph).bind((), graph.fixed)
        return self._run_native

    def _run_native(self, points: torch.Tensor) -> Sequence[torch.Tensor]:
        assert self._native is not None
        values, gradients = torch.empty(len(points), dtype=points.dtype), torch.empty_like(points)
        self._native.run(len(points), [points.contiguous()], [values, gradients])
        return values, gradients

    def prove(self, program: Program) -> None:
        """Compare value and gradient with a program's own, whose tensors have the same values now.

        Raises:
            CaptureError: they differ, as where a number that was taken from other data stands in the code.
        """
        if self.backend in (TRACED, Native.name):
            self._prove(self._gradient, program)

    def _prove(self, gradient: Batched, program: Program | None = None) -> None:
        generator = torch.Generator().manual_seed(0)
        points = torch.randn(2, self.num_dims, dtype=self.program.dtype, generator=generator, device="cpu")
        found, oracle = gradient(points.to(self.program.device)), eager_gradient(program or self.program)
        for index, point in enumerate(points.to(self.program.device)):
            for ours, theirs in zip(found, oracle(point), strict=True):
                if not agree(ours[index], theirs):
                    raise CaptureError(f"traced and eager differ by {largest_difference(ours[index], theirs):.3g}")

    def _one_by_one(self, points: torch.Tensor) -> Sequence[torch.Tensor]:
        found = [self._alone(point[None]) for point in points]
        return [torch.cat(part) for part in zip(*found, strict=True)]

    def _alone(self, point: torch.Tensor) -> Sequence[torch.Tensor]:
        try:
            value, gradient = eager_gradient(self.program)(point[0])
        except NOT_VECTORISABLE:
            return torch.full((1,), torch.nan, dtype=point.dtype), torch.full_like(point, torch.nan)
        return value[None], gradient[None]

    def _traced_products(self) -> Batched:
        density = self.program.log_density

        def product(point: torch.Tensor, vector: torch.Tensor) -> tuple[torch.Tensor]:
            pull: Any = torch.func.vjp(torch.func.grad(density), point)[1]
            return pull(vector)

        zero = torch.zeros(self.num_dims, dtype=self.program.dtype, device=self.program.device)
        data = tuple(self.program.arguments.tensors().values())
        try:
            graph = capture(product, (), (zero, zero + 1.0), data, other_streams=(zero + 0.1, zero + 0.5))
        except CaptureError:
            return self._differences
        return self._differences if graph.random else _Vectorised(graph)

    def _differences(self, points: torch.Tensor, vectors: torch.Tensor) -> Sequence[torch.Tensor]:
        length = vectors.norm(dim=1, keepdim=True).clamp_min(1e-300)
        away = STEP * (1.0 + points.norm(dim=1, keepdim=True)) / length * vectors
        ahead, behind = self._gradient(points + away)[1], self._gradient(points - away)[1]
        return [(ahead - behind) / (2.0 * away.norm(dim=1, keepdim=True)) * length]


def _first_result(graph: Graph) -> Graph:
    """A graph that gives the first result alone, and computes nothing for the others."""
    module = GraphModule(graph.module, copy.deepcopy(graph.module.graph))
    output: Any = next(node for node in module.graph.nodes if node.op == "output")
    output.args = (tuple(output.args[0])[:1],)
    module.graph.eliminate_dead_code()
    module.recompile()
    return replace(graph, module=module)


class Constrained:
    """Latents and deterministics of a program at many points, without the likelihood where they do not need it.

    Make it, and call it, inside `program.isolated()`.

    Args:
        program: the model with its data.
    """

    def __init__(self, program: Program):
        self.program = program
        self._most = max(1, CHUNK_NUMBERS // max(1, program.size_hint))
        zero = torch.zeros(program.num_dims, dtype=program.dtype, device=program.device)
        data = tuple(program.arguments.tensors().values())
        try:
            graph = capture(self._flat, (), (zero,), data, other_streams=(zero + 0.1,))
            self._function: Batched | None = None if graph.random else _Vectorised(_first_result(graph))
        except CaptureError:
            self._function = None

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """All elements of all sites in order, shape (point, element), at points (point, dim)."""
        tensor = torch.tensor(points, dtype=self.program.dtype, device=self.program.device)
        if self._function is None:
            with torch.no_grad():
                found = map_draws(self._flat, len(tensor), tensor, size_hint=self.program.size_hint)[0]
        else:
            found = torch.cat([self._function(part)[0] for part in tensor.split(self._most)])
        return found.double().cpu().numpy()

    def _flat(self, point: torch.Tensor) -> tuple[torch.Tensor]:
        values = self.program.constrain(point).values()
        return (torch.cat([value.reshape(-1).to(self.program.dtype) for value in values]),)


class _Vectorised:
    """A graph of one point's operations, for any number of points; each size that comes again is written down too."""

    def __init__(self, graph: Graph):
        self._graph = graph
        axes = (0,) * graph.num_streams + (None,) * len(graph.fixed)
        self._function: Any = torch.func.vmap(graph.module, in_dims=axes)
        self._sizes: dict[int, Batched | None] = {}

    def __call__(self, *streams: torch.Tensor) -> Sequence[torch.Tensor]:
        size = len(streams[0])
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, about what vmap loops over
            if size not in self._sizes:
                self._sizes[size] = None
                return self._as_it_stands(*streams)
            function = self._sizes[size]
            if function is None:
                function = self._sizes[size] = self._written_down(streams)
            return function(*streams)

    def _as_it_stands(self, *streams: torch.Tensor) -> Sequence[torch.Tensor]:
        return self._function(*streams, *self._graph.fixed)

    def _written_down(self, streams: Sequence[torch.Tensor]) -> Batched:
        fixed = self._graph.fixed
        try:
            module, constants, _ = trace(self._function, lambda: (*streams, *fixed))
        except CaptureError:  # vmap runs some operations point by point, and reads values to do so
            return self._as_it_stands
        return lambda *values: module(*values, *fixed, *constants)
