"""Regression on controls of known mean 0, each fold with the coefficients of the others, from streaming sums."""

import itertools

import numpy as np
import torch
from numpy.typing import NDArray

Float64Array = NDArray[np.float64]

DISTINCT = 1e-6
"""Share of the largest variance that a combination of scaled controls must have; the coefficient of one with less is so
large that a draw beyond those that it was fitted on would swamp the rest."""


class Folds:
    """Sums and products of values and controls, by fold.

    Args:
        num_folds: parts into which each chunk is cut.
    """

    def __init__(self, num_folds: int):
        self.num_folds = num_folds
        self.num_controls = 0
        self._products: Float64Array | None = None
        self._shift: torch.Tensor | None = None
        self._first: list[torch.Tensor] = []

    def add(self, values: torch.Tensor, controls: torch.Tensor) -> None:
        """Take in a chunk: values, shape (draw, *event), and controls of mean 0, float64, shape (draw, control)."""
        flat = values.double().reshape(len(values), -1)
        if self._shift is None or self._products is None:
            self._shift, self.num_controls = flat.mean(0), controls.shape[1]
            columns = 1 + self.num_controls + flat.shape[1]
            self._products = np.zeros((self.num_folds, columns, columns))
        ones = torch.ones(len(flat), 1, dtype=torch.float64, device=flat.device)
        columns = torch.cat([ones, controls, flat - self._shift], 1)
        for products, bounds in zip(self._products, self._bounds(len(flat)), strict=True):
            part = columns[bounds]
            products += (part.T @ part).cpu().numpy()

    def residuals(self, values: torch.Tensor, controls: torch.Tensor) -> torch.Tensor:
        """Values less their controls, of the shape of the values: what carries the error.

        Each fold has the coefficients that the others had when this was first asked, so that residuals of all chunks
        are alike.
        """
        assert self._products is not None
        if not self._first:
            total, (covariates, outputs) = self._products.sum(0), self._columns()
            found = (_coefficients(total - part, covariates, outputs) for part in self._products)
            self._first = [torch.as_tensor(part).to(controls) for part in found]
        flat = values.double().reshape(len(values), -1)
        parts = [
            flat[bounds] - controls[bounds] @ coefficients
            for bounds, coefficients in zip(self._bounds(len(flat)), self._first, strict=True)
        ]
        return torch.cat(parts).reshape(values.shape)

    def _bounds(self, count: int) -> list[slice]:
        ends = np.linspace(0, count, self.num_folds + 1).astype(int).tolist()
        return [slice(start, stop) for start, stop in itertools.pairwise(ends)]

    def _columns(self) -> tuple[slice, slice]:
        """Of controls and outputs among the products."""
        return slice(1, 1 + self.num_controls), slice(1 + self.num_controls, None)

    def estimate(self) -> tuple[Float64Array, Float64Array, Float64Array]:
        """The mean, its standard error, and the share of the variance that controls explain, all (output,)."""
        assert self._products is not None
        assert self._shift is not None
        total = self._products.sum(0)
        controls, outputs = self._columns()
        count, value, residual = total[0, 0], 0.0, 0.0
        for part in self._products:
            coefficients = _coefficients(total - part, controls, outputs)
            mean = part[0, outputs] - coefficients.T @ part[0, controls]
            spread = (
                np.diag(part[outputs, outputs])
                - 2.0 * np.einsum("co,co->o", coefficients, part[controls, outputs])
                + np.einsum("co,cd,do->o", coefficients, part[controls, controls], coefficients)
            )
            value, residual = value + mean, residual + spread
        value = np.asarray(value / count)
        variance = np.maximum(residual / count - value**2, 0.0) * count / (count - 1)
        plain = np.diag(total[outputs, outputs]) / count - (total[0, outputs] / count) ** 2
        with np.errstate(divide="ignore", invalid="ignore"):
            explained = 1.0 - variance / plain
        return value + self._shift.cpu().numpy(), np.sqrt(variance / count), explained


def _coefficients(products: Float64Array, controls: slice, outputs: slice) -> Float64Array:
    """Of the least squares of values on controls and a constant, shape (control, output); 0 for redundant controls."""
    count = products[0, 0]
    mean_controls, mean_outputs = products[0, controls] / count, products[0, outputs] / count
    within = products[controls, controls] / count - np.outer(mean_controls, mean_controls)
    between = products[controls, outputs] / count - np.outer(mean_controls, mean_outputs)
    scale = np.sqrt(np.maximum(np.diag(within), np.finfo(float).tiny))
    solved = np.linalg.lstsq(within / np.outer(scale, scale), between / scale[:, None], rcond=DISTINCT)[0]
    return solved / scale[:, None]
