"""Inverse Hessians along quasi-Newton paths: a diagonal and a few pairs of steps and slopes, for many paths at once."""

from dataclasses import dataclass
from typing import Any

import numpy as np

SMALLEST_BEND = 1e-12
"""A step tells of the curvature where slope and step agree by this share of their lengths, in the path's own metric."""
SMALLEST_EIGENVALUE = 1e-14


@dataclass(frozen=True)
class Factored:
    """Inverse Hessians D (I + Q (diag(e) - I) Qᵀ) D of several paths, D diagonal, Q of orthonormal columns.

    Attributes:
        unit: D, shape (path, dim).
        axes: Q, shape (path, dim, rank).
        eigenvalues: e, shape (path, rank), positive; NaN where rounding has spoilt the estimate.
    """

    unit: np.ndarray
    axes: np.ndarray
    eigenvalues: np.ndarray

    def times(self, vectors: np.ndarray) -> np.ndarray:
        """The inverse Hessians times vectors of shape (path, dim)."""
        own = self.unit * vectors
        return self.unit * (own + self._along((self.eigenvalues - 1.0)[:, None], own[:, None])[:, 0])

    def spread(self, noise: np.ndarray) -> np.ndarray:
        """Draws around zero from noise, both of shape (path, draw, dim), of which the inverse Hessians are covariances.

        They are the symmetric roots' images of the noise, within D.
        """
        return self.unit[:, None] * (noise + self._along((np.sqrt(self.eigenvalues) - 1.0)[:, None], noise))

    def log_scale(self) -> np.ndarray:
        """Half the log determinants, shape (path,)."""
        return np.log(self.unit).sum(axis=1) + 0.5 * np.log(self.eigenvalues).sum(axis=1)

    def conditional_scale(self) -> np.ndarray:
        """Standard deviation of each dim given all others, shape (path, dim)."""
        own = 1.0 + np.einsum("pdk,pk->pd", np.square(self.axes), 1.0 / self.eigenvalues - 1.0)
        return self.unit / np.sqrt(own)

    def root(self, path: int) -> np.ndarray:
        """A square root of one path's inverse Hessian, shape (dim, dim)."""
        axes = self.axes[path]
        symmetric = (axes * (np.sqrt(self.eigenvalues[path]) - 1.0)) @ axes.T
        return self.unit[path][:, None] * (np.eye(len(axes)) + symmetric)

    def _along(self, factor: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        return ((vectors @ self.axes) * factor) @ np.swapaxes(self.axes, 1, 2)


class History:
    """What several L-BFGS paths remember.

    The diagonal follows Gilbert and Lemaréchal (1989), Some numerical experiments with variable-storage quasi-Newton
    algorithms, as Pathfinder's algorithm 3 has it; the pairs enter in the compact form of Byrd, Nocedal and Schnabel
    (1994), Representations of quasi-Newton matrices.

    Args:
        diagonal: first diagonals of the inverse Hessians, shape (path, dim), positive.
        size: pairs that are kept.
    """

    def __init__(self, diagonal: np.ndarray, size: int):
        paths, dim = diagonal.shape
        self.diagonal = diagonal.copy()
        self._steps, self._bends = np.zeros((paths, size, dim)), np.zeros((paths, size, dim))
        self.count = np.zeros(paths, dtype=int)

    def add(self, steps: np.ndarray, bends: np.ndarray, which: np.ndarray) -> None:
        """Take in a step of each path and what it did to the slope of -log p; those that tell nothing are left out.

        Args:
            steps: shape (path, dim).
            bends: differences of the gradients of -log p, shape (path, dim).
            which: paths that made a step, shape (path,).
        """
        a = (self.diagonal * bends * bends).sum(axis=1)
        b = (steps * bends).sum(axis=1)
        c = (steps * steps / self.diagonal).sum(axis=1)
        (told,) = np.nonzero(which & np.isfinite(a) & (b > SMALLEST_BEND * np.sqrt(a * c)) & (b > 0.0))
        step, bend, diagonal = steps[told], bends[told], self.diagonal[told]
        a, b, c = a[told, None], b[told, None], c[told, None]
        inverse = a / (b * diagonal) + bend * bend / b - a * step * step / (b * c * diagonal * diagonal)
        usable = (np.isfinite(inverse) & (inverse > 0.0)).all(axis=1)
        self.diagonal[told[usable]] = 1.0 / inverse[usable]
        self._steps[told] = np.concatenate([self._steps[told, 1:], step[:, None]], axis=1)
        self._bends[told] = np.concatenate([self._bends[told, 1:], bend[:, None]], axis=1)
        self.count[told] += 1

    def factored(self) -> Factored:
        """The inverse Hessians now."""
        unit = np.sqrt(self.diagonal)
        steps, bends = self._steps / unit[:, None], self._bends * unit[:, None]
        size = steps.shape[1]
        products = steps @ np.swapaxes(bends, 1, 2)
        own = np.einsum("pjj->pj", products)
        # Places not yet filled are pairs of zeros, which only must not make the triangle singular.
        filled = np.where(own > 0.0, own, 1.0)
        triangle = np.triu(products, 1) + filled[:, :, None] * np.eye(size)
        inverse = np.linalg.inv(triangle)
        middle = own[:, :, None] * np.eye(size) + bends @ np.swapaxes(bends, 1, 2)
        corner = np.swapaxes(inverse, 1, 2) @ middle @ inverse
        zero = np.zeros_like(corner)
        gamma = np.concatenate(
            [
                np.concatenate([zero, -inverse], axis=2),
                np.concatenate([-np.swapaxes(inverse, 1, 2), corner], axis=2),
            ],
            axis=1,
        )
        pairs = np.swapaxes(np.concatenate([bends, steps], axis=1), 1, 2)
        # Columns of unit length keep the factorisation well conditioned, whatever the lengths of the steps.
        length = np.sqrt(np.square(pairs).sum(axis=1))
        length = np.where(length > 0.0, length, 1.0)
        orthonormal, upper = np.linalg.qr(pairs / length[:, None])
        upper = upper * length[:, None]
        inner = upper @ gamma @ np.swapaxes(upper, 1, 2)
        finite: Any = np.isfinite(inner).all(axis=(1, 2))
        inner = np.where(finite[:, None, None], 0.5 * (inner + np.swapaxes(inner, 1, 2)), 0.0)
        values, vectors = np.linalg.eigh(inner)
        eigenvalues = 1.0 + values
        good: Any = finite & (eigenvalues > SMALLEST_EIGENVALUE).all(axis=1)
        return Factored(unit, orthonormal @ vectors, np.where(good[:, None], eigenvalues, np.nan))

    def forget(self, which: np.ndarray) -> None:
        """Drop the pairs of some paths, which stay with their diagonals."""
        self._steps[which] = 0.0
        self._bends[which] = 0.0
