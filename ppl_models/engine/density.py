"""Choose a backend for a log density, compile it, and prove it against eager before it is used."""

import time
import warnings
from collections.abc import Mapping

import torch

from ppl_models.engine.eager import Eager
from ppl_models.engine.inductor import Inductor
from ppl_models.engine.protocol import Backend, CaptureError, CompiledDensity, GradientFunction
from ppl_models.errors import BackendWarning, UnknownNameError
from ppl_models.program import Program

BACKENDS: Mapping[str, Backend] = {backend.name: backend for backend in (Inductor(), Eager())}
"""Fastest first. A further backend is one file and one entry here."""

RELATIVE_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
NUM_PARITY_POINTS = 3


def check_backend(name: str) -> None:
    """Refuse a backend name that is not known.

    Raises:
        UnknownNameError: lists the valid names, nearest first.
    """
    if name != "auto" and name not in BACKENDS:
        raise UnknownNameError("backend", name, ("auto", *BACKENDS))


def compile_density(program: Program, backend: str = "auto") -> CompiledDensity:
    """Compile a program's log density and gradient. Call it inside `program.isolated()`.

    Args:
        program: the model with its data.
        backend: "auto" takes the fastest that works; a name takes that one, or eager with a warning.

    Raises:
        UnknownNameError: no backend has that name.
    """
    check_backend(backend)
    started = time.perf_counter()
    notes = []
    for candidate in BACKENDS.values():
        if backend not in ("auto", candidate.name) and candidate.name != "eager":
            continue
        missing = candidate.available()
        if missing is None:
            try:
                gradient = candidate.compile(program)
                _prove(program, gradient, candidate.name)
            except CaptureError as error:
                missing = str(error)
            else:
                seconds = time.perf_counter() - started
                return CompiledDensity(program, gradient, candidate.name, seconds, "; ".join(notes))
        notes.append(f"{candidate.name}: {missing}")
        warnings.warn(f"backend {notes[-1]}. Running slower, with eager.", BackendWarning, stacklevel=3)
    raise AssertionError("eager always works")


def _prove(program: Program, gradient: GradientFunction, name: str) -> None:
    if name == "eager":
        return
    oracle = BACKENDS["eager"].compile(program)
    generator = torch.Generator().manual_seed(0)
    for _ in range(NUM_PARITY_POINTS):
        flat = torch.randn(program.num_dims, dtype=program.dtype, generator=generator)
        for found, wanted, what in zip(gradient(flat), oracle(flat), ("value", "gradient"), strict=True):
            if not _agree(found, wanted):
                raise CaptureError(
                    f"its {what} differs from eager's by {float((found - wanted).abs().max()):.3g}: does the model "
                    "draw random numbers, or change Python state, while it runs?"
                )


def _agree(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    finite = torch.isfinite(wanted)
    if not torch.equal(finite, torch.isfinite(found)):
        return False
    if not finite.any():
        return True
    found, wanted = found[finite], wanted[finite]
    scale = wanted.abs().max().clamp_min(1.0)
    return bool(((found - wanted).abs() <= RELATIVE_TOLERANCE[wanted.dtype] * scale).all())
