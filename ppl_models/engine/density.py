"""Choose a backend for a log density, compile it, and prove it against eager before it is used."""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from ppl_models.engine.backends import AUTO, COMPILERS, EAGER, check_backend
from ppl_models.engine.graph import Graph, capture
from ppl_models.engine.native.library import Pool
from ppl_models.engine.native.native import NativeRunner
from ppl_models.engine.proof import agree, largest_difference
from ppl_models.engine.protocol import Backend, Runner
from ppl_models.errors import BackendWarning, CaptureError, first_line
from ppl_models.program import Program

NUM_PARITY_POINTS = 3

GradientFunction = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""Takes the flat unconstrained vector, shape (dim,); returns (log density in nats, gradient of shape (dim,))."""


@dataclass(frozen=True)
class CompiledDensity:
    """A log density and its gradient as a plain function of a NumPy vector.

    Attributes:
        program: the model with its data.
        gradient: takes a vector as a tensor, returns value and gradient.
        backend: what runs it.
        seconds: time spent on capturing and compiling.
        note: why a faster backend was not used; empty otherwise.
        runner: the compiled code; None for eager.
    """

    program: Program
    gradient: GradientFunction
    backend: str
    seconds: float
    note: str = ""
    runner: Runner | None = field(default=None, repr=False)

    def __call__(self, flat: np.ndarray) -> tuple[float, np.ndarray]:
        """Log density in nats at an unconstrained vector of shape (dim,), and its gradient, shape (dim,), float64.

        Call it inside `program.isolated()`.
        """
        value, gradient = self.gradient(torch.as_tensor(flat, dtype=self.program.dtype))
        return float(value), gradient.cpu().numpy().astype(np.float64, copy=False)

    def pool(self, size: int) -> Pool | None:
        """The density as a C function for up to `size` threads at once, None where the backend has none."""
        if not isinstance(self.runner, NativeRunner):
            return None
        return self.runner.pool([torch.zeros(self.program.num_dims, dtype=self.program.dtype)], size)


def eager_gradient(program: Program) -> GradientFunction:
    """The model's own log density with autograd's gradient: the oracle of the others."""

    def gradient(flat: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        leaf = flat.detach().clone().requires_grad_(True)
        with torch.enable_grad():
            value = program.log_density(leaf)
            (slope,) = torch.autograd.grad(value, leaf)
        return value.detach(), slope

    return gradient


def capture_density(program: Program, num_threads: int = 1) -> Graph:
    """A program's log density and its gradient as a graph; the data are inputs of it.

    Raises:
        CaptureError: the model cannot be captured; the message says why, and where.
    """

    def value_and_gradient(flat: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        gradient, value = torch.func.grad_and_value(program.log_density)(flat)
        return value, gradient

    points = [torch.zeros(program.num_dims, dtype=program.dtype), _point(program, 0)]
    graph = capture(
        value_and_gradient,
        (),
        points[:1],
        tuple(program.arguments.tensors().values()),
        other_streams=points[1:],
        num_threads=num_threads,
        density=True,
    )
    if graph.random:
        raise CaptureError(f"the model draws random numbers while its density is computed ({', '.join(graph.random)})")
    return graph


def compile_density(program: Program, backend: str = AUTO) -> CompiledDensity:
    """Compile a program's log density and gradient. Call it inside `program.isolated()`.

    Args:
        program: the model with its data.
        backend: "auto" takes the fastest that works; a name takes that one, or eager with a warning.

    Raises:
        UnknownNameError: no backend has that name.
    """
    check_backend(backend)
    started = time.perf_counter()
    if backend == EAGER:
        return CompiledDensity(program, eager_gradient(program), EAGER, 0.0)
    notes = []
    try:
        graph = capture_density(program)
    except CaptureError as error:
        notes.append(f"capture: {error}")
    else:
        for candidate in COMPILERS.values():
            if backend not in (AUTO, candidate.name):
                continue
            try:
                runner = _runner(program, graph, candidate)
            except CaptureError as error:
                notes.append(f"backend {candidate.name}: {error}")
            else:
                seconds = time.perf_counter() - started
                gradient = _gradient(program, runner)
                return CompiledDensity(program, gradient, candidate.name, seconds, "; ".join(notes), runner)
    note = "; ".join(notes)
    warnings.warn(f"{note}. Running slower, with eager.", BackendWarning, stacklevel=3)
    return CompiledDensity(program, eager_gradient(program), EAGER, time.perf_counter() - started, note)


def _runner(program: Program, graph: Graph, candidate: Backend) -> Runner:
    missing = candidate.available()
    if missing is not None:
        raise CaptureError(missing)
    runner = candidate.compile(graph).bind((), graph.fixed)
    try:
        _prove(program, _gradient(program, runner))
    except CaptureError:
        raise
    except (RuntimeError, ValueError, ArithmeticError) as error:
        raise CaptureError(f"the density fails: {type(error).__name__}: {first_line(error)}") from error
    return runner


def _gradient(program: Program, runner: Runner) -> GradientFunction:
    def gradient(flat: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        value = torch.empty(1, dtype=program.dtype)
        slope = torch.empty(1, program.num_dims, dtype=program.dtype)
        runner.run(1, [flat[None].contiguous()], [value, slope])
        return value[0], slope[0]

    return gradient


def _prove(program: Program, gradient: GradientFunction) -> None:
    oracle = eager_gradient(program)
    for number in range(NUM_PARITY_POINTS):
        flat = _point(program, number)
        for found, wanted, what in zip(gradient(flat), oracle(flat), ("value", "gradient"), strict=True):
            if not agree(found, wanted):
                raise CaptureError(
                    f"its {what} differs from eager's by {largest_difference(found, wanted):.3g}: does the model draw "
                    "random numbers, or change Python state, while it runs?"
                )


def _point(program: Program, number: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(number)
    return torch.randn(program.num_dims, dtype=program.dtype, generator=generator, device="cpu").to(program.device)
