"""Equal strata of the unit cube, and the moments of values in each."""

import math

import numpy as np
import torch
from numpy.typing import NDArray

Float64Array = NDArray[np.float64]

ROUNDING = 1e-13
"""Share of a sum of squares below which what is left of it is rounding."""


class Strata:
    """A grid over the first coordinates of the unit cube, and running moments of values in each of its cells.

    Args:
        per_dim: cells along each coordinate.
        num_dims: coordinates that are divided.
    """

    def __init__(self, per_dim: int, num_dims: int):
        self.per_dim, self.num_dims = per_dim, num_dims
        self.count = per_dim**num_dims
        self.clear()

    def clear(self) -> None:
        """Forget the values, not the grid."""
        self._sums: list[torch.Tensor] | None = None
        self._counts = torch.zeros(0)
        self._shift: torch.Tensor | None = None

    def uniforms(self, cells: torch.Tensor, num_uniforms: int) -> torch.Tensor:
        """A uniform point in each of the cells, float64, shape (draw, num_uniforms)."""
        uniform = torch.rand(len(cells), num_uniforms, dtype=torch.float64, device=cells.device)
        rest = cells
        for dim in range(self.num_dims):
            uniform[:, dim] = (rest % self.per_dim + uniform[:, dim]) / self.per_dim
            rest = rest // self.per_dim
        return uniform.clamp_(2.0**-54, 1.0 - 2.0**-53)

    def add(self, cells: torch.Tensor, values: torch.Tensor) -> None:
        """Take in values, shape (draw, *event), of draws in cells, shape (draw,)."""
        values = values.double()
        if self._sums is None or self._shift is None:
            self._shift = values.mean(0)  # sums of squares about it do not cancel
            blank = torch.zeros(self.count, *values.shape[1:], dtype=torch.float64, device=values.device)
            self._counts = torch.zeros(self.count, dtype=torch.float64, device=values.device)
            self._sums = [blank, blank.clone(), blank.clone()]
        rest = values - self._shift
        self._counts.index_add_(0, cells, torch.ones_like(cells, dtype=torch.float64))
        power = rest
        for sums in self._sums:
            sums.index_add_(0, cells, power)
            power = power * rest

    def moments(self) -> tuple[Float64Array, Float64Array, Float64Array, Float64Array]:
        """Count, shape (cell,), mean, unbiased variance and third central moment, shape (cell, *event).

        NaN where a cell has too few values.
        """
        assert self._sums is not None
        assert self._shift is not None
        counts = self._counts.cpu().numpy()
        sums, squares, cubes = (part.cpu().numpy() for part in self._sums)
        wide = counts.reshape(-1, *[1] * (sums.ndim - 1))
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = sums / wide
            rest = squares - wide * mean**2
            variance = np.where(wide > 1, np.where(rest > ROUNDING * squares, rest, 0.0) / (wide - 1), math.nan)
            third = cubes / wide - 3.0 * mean * squares / wide + 2.0 * mean**3
        return counts, mean + self._shift.cpu().numpy(), variance, third
