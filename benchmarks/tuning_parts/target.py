"""A program's log density and gradient as numpy functions of many points."""

import time

import numpy as np
import torch

from ppl_models.engine.batched_density import BatchedGradient, batched_gradient
from ppl_models.program import Program

CHUNK_NUMBERS = 4_000_000
MOST_AT_ONCE = 2_048


class Target:
    """The log density of a program in its flat unconstrained space.

    Args:
        program: the model with its data.
    """

    def __init__(self, program: Program):
        self.program = program
        self.count = max(8, min(MOST_AT_ONCE, CHUNK_NUMBERS // max(1, program.size_hint)))
        with program.isolated():
            self._batched: BatchedGradient = batched_gradient(program, self.count)

    @property
    def num_dims(self) -> int:
        """Length of the flat unconstrained vector."""
        return self.program.num_dims

    def density(self, points: np.ndarray) -> np.ndarray:
        """Log densities in nats, shape (point,)."""
        return self.gradient(points)[0]

    def gradient(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log densities in nats, shape (point,), and gradients, (point, dim)."""
        with self.program.isolated():
            values, slopes = self._batched(torch.as_tensor(points, dtype=self.program.dtype))
        return values.numpy(), slopes.numpy()

    def seconds_per_point(self) -> float:
        """What a point costs, about."""
        points = np.zeros((self.count, self.num_dims)) + 0.01
        self.gradient(points)
        started = time.perf_counter()
        self.gradient(points)
        return (time.perf_counter() - started) / self.count
