"""Densities, draws and divergences of the normals, and the mixtures of normals, that methods find."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import logsumexp

from ppl_models.inference.preconditioning.pilot import Normal

LOG_TWO_PI = float(np.log(2.0 * np.pi))


def moved(normal: Normal, noise: np.ndarray) -> np.ndarray:
    """Points of a normal from standard noise, both of shape (point, dim)."""
    return normal.mean + (noise * normal.root if normal.root.ndim == 1 else noise @ normal.root.T)


def antithetic(pairs: int, dim: int, rng: np.random.Generator) -> np.ndarray:
    """Standard noise, shape (2 * pair, dim), the second half the negative of the first.

    From as many pairs as dims on, its covariance is made the identity: then means of quadratic functions of it, as the
    ELBO of a normal has them on a normal target, are exact.
    """
    half = rng.standard_normal((pairs, dim))
    if pairs >= dim:
        upper: Any = np.linalg.qr(half, mode="r")
        half = solve_triangular(upper, half.T, trans=1, check_finite=False).T * np.sqrt(pairs)
    return np.concatenate([half, -half])


def log_scale(root: np.ndarray) -> float:
    """Log determinant of a root, (dim,) or (dim, dim)."""
    return float(np.log(root).sum() if root.ndim == 1 else np.linalg.slogdet(root)[1])


def log_density(normal: Normal, points: np.ndarray) -> np.ndarray:
    """Log densities in nats, shape (point,), at points of shape (point, dim)."""
    return -0.5 * (squared_distance(normal, points) + points.shape[1] * LOG_TWO_PI) - log_scale(normal.root)


def squared_distance(normal: Normal, points: np.ndarray) -> np.ndarray:
    """Squared Mahalanobis distances from a normal's mean, shape (point,), of points of shape (point, dim)."""
    away = points - normal.mean
    if normal.root.ndim == 1:
        return np.square(away / normal.root).sum(axis=1)
    solved: Any = solve_triangular(normal.scale_tril, away.T, lower=True, check_finite=False)
    return np.square(solved).sum(axis=0)


def component_densities(normals: Sequence[Normal], points: np.ndarray) -> np.ndarray:
    """Log density of every normal at every point, shape (point, component)."""
    return np.stack([log_density(normal, points) for normal in normals], axis=1)


def mixture_density(weights: np.ndarray, logs: np.ndarray) -> np.ndarray:
    """Log density of a mixture, shape (point,), from `component_densities`."""
    with np.errstate(divide="ignore"):
        found: Any = logsumexp(logs + np.log(weights), axis=1)
    return found


def elbo(values: np.ndarray, noise: np.ndarray, root: np.ndarray) -> np.ndarray:
    """Terms of a normal's ELBO in nats, one a draw: of no variance where the target is the normal.

    Args:
        values: log densities at the draws, shape (draw,).
        noise: that the draws were made from, shape (draw, dim).
        root: of the normal.
    """
    return values + 0.5 * np.square(noise).sum(axis=1) + log_scale(root) + 0.5 * noise.shape[1] * LOG_TWO_PI


def divergence(first: Normal, second: Normal) -> float:
    """The Kullback-Leibler divergence KL(first || second) in nats, in closed form."""
    tril = second.scale_tril
    relative: Any = solve_triangular(tril, first.scale_tril, lower=True, check_finite=False)
    away: Any = solve_triangular(tril, first.mean - second.mean, lower=True, check_finite=False)
    log_ratio = np.log(np.abs(np.diag(relative))).sum()
    return float(0.5 * (np.square(relative).sum() + away @ away - len(away)) - log_ratio)
