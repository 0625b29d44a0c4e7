"""What the engine gives: a compiled log density with its gradient, and what a backend must offer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from ppl_models.program import Program

GradientFunction = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""Takes the flat unconstrained vector, shape (dim,); returns (log density in nats, gradient of shape (dim,))."""


@dataclass(frozen=True)
class CompiledDensity:
    """A log density and its gradient as a plain function of a NumPy vector.

    Attributes:
        backend: what runs it: "eager" or "inductor".
        seconds: time spent on compiling.
        note: why a faster backend was not used; empty otherwise.
    """

    program: Program
    gradient: GradientFunction
    backend: str
    seconds: float
    note: str = ""

    def __call__(self, flat: np.ndarray) -> tuple[float, np.ndarray]:
        """Log density in nats at an unconstrained vector of shape (dim,), and its gradient, shape (dim,), float64.

        Call it inside `program.isolated()`.
        """
        value, gradient = self.gradient(torch.as_tensor(flat, dtype=self.program.dtype))
        return float(value), gradient.numpy().astype(np.float64, copy=False)


class Backend(Protocol):
    """One way to run a program's log density. A backend is one file with one of these, listed in `density.py`."""

    name: str

    def available(self) -> str | None:
        """None where this backend can run here, else what is missing."""
        ...

    def compile(self, program: Program) -> GradientFunction:
        """The log density and gradient of a program.

        Raises:
            CaptureError: this program cannot be captured or compiled.
        """
        ...


class CaptureError(Exception):
    """A program cannot be turned into a graph; the message names the cause in one line."""
