"""Pareto smoothed importance sampling of many columns of ratios at once: one per datum, observation or replicate."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from ppl_models.diagnostics.khat import MIN_DRAWS
from ppl_models.errors import DataError
from ppl_models.inference.pareto_tail import grid_size, smooth_tail, tail_length

Float64Array = NDArray[np.float64]

NUMBERS_AT_ONCE = 4_000_000
"""Bounds memory: how many numbers the grid of one block of columns may hold."""


def khat_columns(log_ratio: ArrayLike, *, relative_efficiency: float = 1.0) -> Float64Array:
    """k-hat of each column.

    Args:
        log_ratio: log p - log q in nats, shape (draw, column); at least 100 draws; -inf is a weight of zero.
        relative_efficiency: effective draws of each draw; below 1 for Markov chains.

    Returns:
        k-hat (unitless), shape (column,), as `pareto_khat` gives it; NaN also where a column holds NaN or +inf, or
        nothing but -inf.

    Raises:
        DataError: wrong shape, or fewer than 100 draws.
    """
    rows = _rows(log_ratio)
    blocks = _blocks(rows, relative_efficiency)
    return np.concatenate([_smooth(block.copy(), relative_efficiency)[1] for block in blocks] or [np.zeros(0)])


def psis_columns(log_ratio: ArrayLike, *, relative_efficiency: float = 1.0) -> tuple[Float64Array, Float64Array]:
    """Pareto-smoothed log weights of each column, and its k-hat.

    Args:
        log_ratio: log p - log q in nats, shape (draw, column); at least 100 draws; -inf is a weight of zero.
        relative_efficiency: effective draws of each draw; below 1 for Markov chains.

    Returns:
        The log weights, shape (draw, column), whose exponentials sum to one over the draws, and k-hat, shape (column,).
        Columns whose k-hat is not finite, or whose largest ratios are equal, are normalised but not smoothed; a column
        that holds NaN or +inf, or nothing but -inf, becomes NaN.

    Raises:
        DataError: wrong shape, or fewer than 100 draws.

    Zhang and Stephens (2009), Technometrics 51(3); Vehtari, Simpson, Gelman, Yao and Gabry (2024), JMLR 25(72).
    """
    rows = _rows(log_ratio)
    found = [_smooth(block.copy(), relative_efficiency) for block in _blocks(rows, relative_efficiency)]
    if not found:
        return np.zeros((rows.shape[1], 0)), np.zeros(0)
    return np.concatenate([weights for weights, _ in found]).T, np.concatenate([khat for _, khat in found])


def _rows(log_ratio: ArrayLike) -> Float64Array:
    ratios = np.asarray(log_ratio, dtype=float)
    if ratios.ndim != 2:
        raise DataError(
            f"log_ratio: shape {ratios.shape}, needs (draw, column). Stack chains, and flatten the columns."
        )
    if len(ratios) < MIN_DRAWS:
        raise DataError(f"log_ratio: {len(ratios)} draws, needs at least {MIN_DRAWS}. Draw more.")
    return ratios.T


def _blocks(rows: Float64Array, relative_efficiency: float) -> list[Float64Array]:
    num_tail = tail_length(rows.shape[1], relative_efficiency)
    size = max(1, NUMBERS_AT_ONCE // (rows.shape[1] + num_tail * grid_size(num_tail)))
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _smooth(ratios: Float64Array, relative_efficiency: float) -> tuple[Float64Array, Float64Array]:
    """Smoothed log weights, shape (column, draw), and k-hats; overwrites the ratios."""
    top = ratios.max(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        ratios -= top  # NaN wherever the top is not finite
    num_tail = tail_length(ratios.shape[1], relative_efficiency)
    places = np.argpartition(ratios, -num_tail - 1, axis=1)[:, -num_tail - 1 :]
    ordered = np.take_along_axis(places, np.take_along_axis(ratios, places, axis=1).argsort(axis=1), axis=1)
    largest = np.take_along_axis(ratios, ordered, axis=1)
    khat, ratios[np.arange(len(ratios))[:, None], ordered[:, 1:]] = smooth_tail(largest, ratios.min(axis=1))
    ratios -= np.asarray(logsumexp(ratios, axis=1, keepdims=True))
    return ratios, khat
