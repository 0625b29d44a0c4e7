"""The negative ELBO of independent normals on fixed draws, as a function of coordinates of about unit scale."""

from functools import cached_property

import numpy as np

from ppl_models.engine import Target
from ppl_models.inference.methods.approximations import Normal

ENDLESS = 1e8
"""A mean that has moved by so many scales, or a scale that has grown by this factor, runs away."""
HALF_LOG = 0.5 * float(np.log(2.0 * np.pi))


class MeanField:
    """The objective -(1/M) sum log p(m + exp(x) z) - sum x, in coordinates in which a normal target has curvature one.

    With the normal N(c, R Rᵀ) to begin at and its conditional standard deviations s, the means are m = c + R a and the
    log standard deviations x = log s + b / sqrt(2): where the target is that normal, and the draws are whitened, the
    Hessian in (a, b) at zero is the identity. The family itself stays that of independent normals.

    Args:
        target: the log density.
        begin: the normal.
        noise: the fixed draws z, shape (draw, dim).
    """

    def __init__(self, target: Target, begin: Normal, noise: np.ndarray):
        self.target, self.begin, self.noise = target, begin, noise
        self.num_dims = len(begin.mean)
        self._log_scale = np.log(begin.conditional_scale)

    def with_noise(self, noise: np.ndarray) -> "MeanField":
        """The same on other draws."""
        return MeanField(self.target, self.begin, noise)

    def parameters(self, point: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Means and log standard deviations at coordinates of shape (2 * dim,)."""
        a, b = np.split(point, 2)
        return self.begin.mean + self.out(a), self._log_scale + b / np.sqrt(2.0)

    def normal(self, point: np.ndarray, loss: float, num_steps: int) -> Normal:
        """The independent normals at some coordinates."""
        mean, log_scale = self.parameters(point)
        return Normal(mean, np.exp(log_scale), -loss, num_steps)

    def errors(self, coordinates: np.ndarray, point: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What differences of coordinates, shape (number, 2 * dim), mean: of means, in sds, and of log sds."""
        a, b = np.split(coordinates, 2, axis=1)
        return self.out(a) / np.exp(self.parameters(point)[1]), b / np.sqrt(2.0)

    def __call__(self, point: np.ndarray) -> tuple[float, np.ndarray]:
        """The loss in nats and its gradient; not finite where the log density is not at some draw."""
        mean, log_scale = self.parameters(point)
        with np.errstate(over="ignore", invalid="ignore"):
            away = np.exp(log_scale) * self.noise
            values, slopes = self.target(mean + away)
            loss = -values.mean() - log_scale.sum() - self.num_dims * (0.5 + HALF_LOG)
            gradient = self._pulled(-slopes.mean(axis=0), -(slopes * away).mean(axis=0) - 1.0)
        return float(loss), gradient

    def mean_score(self, point: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Gradients of the loss on groups of draws, shape (group, draw, dim); returns shape (group, 2 * dim)."""
        mean, log_scale = self.parameters(point)
        away = np.exp(log_scale) * noise
        flat = (mean + away).reshape(-1, self.num_dims)
        # As many at once as the loss takes: the target writes down its operations for each size anew.
        parts = [self.target(flat[at : at + len(self.noise)])[1] for at in range(0, len(flat), len(self.noise))]
        slopes = np.concatenate(parts).reshape(noise.shape)
        return self._pulled(-slopes.mean(axis=1), -(slopes * away).mean(axis=1) - 1.0)

    def curvature(self, point: np.ndarray) -> "Curvature":
        """The Hessian at a point, as products."""
        return Curvature(self, point)

    def runs_away(self, point: np.ndarray) -> np.ndarray:
        """Which dims have no bound: shape (dim,), boolean."""
        a, b = np.split(point, 2)
        moved = np.abs(self.out(a)) / self.begin.scale
        return (moved > ENDLESS) | (b / np.sqrt(2.0) > np.log(ENDLESS))

    def out(self, a: np.ndarray) -> np.ndarray:
        """What differences a in the coordinates of the means mean; the last axis is (dim,)."""
        return a * self.begin.root if self.begin.root.ndim == 1 else a @ self.begin.root.T

    def _pulled(self, of_mean: np.ndarray, of_log_scale: np.ndarray) -> np.ndarray:
        root = self.begin.root
        return np.concatenate(
            [of_mean * root if root.ndim == 1 else of_mean @ root, of_log_scale / np.sqrt(2.0)], axis=-1
        )


class Curvature:
    """The Hessian of `MeanField` at a point: exact, through products with the target's Hessian at every draw."""

    def __init__(self, objective: MeanField, point: np.ndarray):
        self._of, self._point = objective, point
        mean, log_scale = objective.parameters(point)
        self._away = np.exp(log_scale) * objective.noise
        self._points = mean + self._away

    @cached_property
    def _slope(self) -> np.ndarray:
        """The gradient's part in the Hessian's diagonal: the second derivative of exp(x) z along x."""
        return (self._of.target(self._points)[1] * self._away).mean(axis=0)

    def __call__(self, vector: np.ndarray) -> np.ndarray:
        """The Hessian times a vector, both of shape (2 * dim,)."""
        a, b = np.split(vector, 2)
        b = b / np.sqrt(2.0)
        found = self._of.target.hessian_products(self._points, self._of.out(a) + b * self._away)
        return self._of._pulled(-found.mean(axis=0), -(found * self._away).mean(axis=0) - self._slope * b)

    @cached_property
    def dense(self) -> np.ndarray:
        """The Hessian, shape (2 * dim, 2 * dim), from the target's Hessian at every draw, a column at a time."""
        dim = self._of.num_dims
        blocks = np.zeros((3, dim, dim))
        for column in range(dim):
            unit = np.zeros_like(self._points)
            unit[:, column] = 1.0
            found = -self._of.target.hessian_products(self._points, unit)
            blocks[0, :, column] = found.mean(axis=0)
            by_scale = found * self._away[:, column, None]
            blocks[1, :, column] = by_scale.mean(axis=0)
            blocks[2, :, column] = (by_scale * self._away).mean(axis=0)
        blocks[2] -= np.diag(self._slope)
        upper = np.block([[blocks[0], blocks[1]], [blocks[1].T, blocks[2]]])
        half = self._of._pulled(*np.split(upper, 2, axis=1)).T
        found = self._of._pulled(*np.split(half, 2, axis=1))
        return 0.5 * (found + found.T)
