"""Equal strata of the unit cube, and the moments of values in each."""

import math

import numpy as np
import torch
from numpy.typing import NDArray

from ppl_models.inference.monte_carlo.moments import HIGHEST

Float64Array = NDArray[np.float64]

ROUNDING = 1e-13
"""Spread beside a cell's mean that is rounding."""


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
        blank = torch.zeros(self.count, *values.shape[1:], dtype=torch.float64, device=values.device)
        if self._sums is None or self._shift is None:
            self._counts = torch.zeros(self.count, dtype=torch.float64, device=values.device)
            self._shift, self._sums = blank.clone(), [blank.clone() for _ in range(HIGHEST)]
        here = torch.bincount(cells, minlength=self.count).double()
        # powers of what is left of a value cancel little about a mean of its own cell, the first that was seen
        first = (self._counts == 0) & (here > 0)
        wide = here.clamp(min=1.0).reshape(-1, *[1] * (values.ndim - 1))
        self._shift[first] = (blank.index_add_(0, cells, values) / wide)[first]
        self._counts += here
        rest = values - self._shift[cells]
        power = rest
        for sums in self._sums:
            sums.index_add_(0, cells, power)
            power = power * rest

    def moments(self) -> tuple[Float64Array, Float64Array, Float64Array, Float64Array]:
        """Count, shape (cell,), mean and unbiased variance, shape (cell, *event), and moments, (5, cell, *event).

        The moments are the second to sixth central ones. NaN where a cell has too few values.
        """
        assert self._sums is not None
        assert self._shift is not None
        counts, shift = self._counts.cpu().numpy(), self._shift.cpu().numpy()
        wide = counts.reshape(-1, *[1] * (shift.ndim - 1))
        with np.errstate(divide="ignore", invalid="ignore"):
            raw = [np.ones_like(shift), *(part.cpu().numpy() / wide for part in self._sums)]
            central = np.stack([_central(raw, order) for order in range(2, HIGHEST + 1)])
            mean = raw[1] + shift
            central[:, central[0] <= ROUNDING * mean**2 * ROUNDING] = 0.0
            variance = np.where(wide > 1, central[0] * wide / (wide - 1), math.nan)
        return counts, mean, variance, central


def _central(raw: list[Float64Array], order: int) -> Float64Array:
    """A central moment from those about another point, from the zeroth on."""
    terms = (math.comb(order, power) * raw[power] * (-raw[1]) ** (order - power) for power in range(order + 1))
    return np.sum(list(terms), axis=0)
