"""A covariance as a diagonal plus a matrix of low rank."""

import numpy as np

MAX_STEPS = 200
SMALLEST_SHARE = 1e-3
"""Least share of a variance that stays unique to its variable: at zero the normal would be singular."""


def factor_analysis(covariance: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Factor a covariance: diag(unique²) + loadings @ loadings.T.

    Iterated principal factors (Mardia, Kent and Bibby 1979, Multivariate analysis, chapter 9) on the correlations.

    Args:
        covariance: shape (dim, dim), positive definite.
        rank: number of factors.

    Returns:
        Unique standard deviations, shape (dim,), and loadings, shape (dim, rank).
    """
    scale = np.sqrt(np.diag(covariance))
    correlation = covariance / np.outer(scale, scale)
    unique = np.clip(1.0 / np.diag(np.linalg.inv(correlation)), SMALLEST_SHARE, 1.0)
    loadings = np.zeros((len(scale), rank))
    for _ in range(MAX_STEPS):
        values, vectors = np.linalg.eigh(correlation - np.diag(unique))
        largest = slice(max(0, len(values) - rank), None)
        found = vectors[:, largest] * np.sqrt(np.maximum(values[largest], 0.0))
        loadings[:, : found.shape[1]] = found
        before, unique = unique, np.clip(1.0 - np.square(loadings).sum(axis=1), SMALLEST_SHARE, 1.0)
        if np.abs(unique - before).max() < 1e-6:
            break
    return scale * np.sqrt(unique), scale[:, None] * loadings
