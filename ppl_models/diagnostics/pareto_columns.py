"""Pareto smoothed importance sampling of many columns of ratios at once: one per datum, observation or replicate."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from ppl_models.diagnostics.khat import MIN_DRAWS, ROUNDING
from ppl_models.errors import DataError

Float64Array = NDArray[np.float64]

PRIOR_SCALE, PRIOR_SHAPE, PRIOR_DRAWS = 3.0, 0.5, 10.0
"""Of Zhang and Stephens' grid, and of the weak prior that pulls k-hat towards a half, worth ten tail draws."""
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


def tail_length(num_draws: int, relative_efficiency: float = 1.0) -> int:
    """How many draws the tail holds: the smaller of 3 sqrt(S / efficiency) and a fifth."""
    return min(math.floor(3.0 * math.sqrt(num_draws / relative_efficiency)), num_draws // 5)


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
    size = max(1, NUMBERS_AT_ONCE // (rows.shape[1] + num_tail * _grid_size(num_tail)))
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
    khat = _degenerate(largest, ratios.min(axis=1))
    rest = np.isnan(khat) & np.isfinite(top[:, 0])
    exceed = np.exp(largest[:, 1:]) - np.exp(largest[:, :1])
    fit = rest & (exceed[:, _quartile(num_tail)] > 0.0)
    # the fit divides by the lower quartile of the exceedances: where that underflows one draw carries all the weight
    tied = (largest[:, 1 + _quartile(num_tail)] == largest[:, 0]) & (np.exp(largest[:, 0]) > 0.0)
    khat[rest & ~fit & ~tied] = math.inf
    if fit.any():
        shape, scale = _generalised_pareto(exceed[fit])
        khat[fit] = (num_tail * shape + PRIOR_DRAWS * PRIOR_SHAPE) / (num_tail + PRIOR_DRAWS)
        smoothed = _quantiles(khat[fit], scale, np.exp(largest[fit, :1]), num_tail)
        ratios[np.flatnonzero(fit)[:, None], ordered[fit, 1:]] = np.minimum(smoothed, 0.0)
    ratios -= np.asarray(logsumexp(ratios, axis=1, keepdims=True))
    return ratios, khat


def _degenerate(largest: Float64Array, smallest: Float64Array) -> Float64Array:
    """0 where all ratios are equal but for rounding, or an atom stands at the largest; NaN elsewhere."""
    bounded = (-smallest <= ROUNDING) | (largest[:, 1] == largest[:, -1])
    return np.where(bounded, 0.0, math.nan)


def _quartile(num_tail: int) -> int:
    return int(num_tail / 4 + 0.5) - 1


def _grid_size(num_tail: int) -> int:
    return 30 + int(math.sqrt(num_tail))


def _generalised_pareto(exceed: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Zhang and Stephens' estimates of shape (before the prior) and scale from ordered exceedances (column, tail)."""
    num_tail = exceed.shape[1]
    size = _grid_size(num_tail)
    grid = 1.0 - np.sqrt(size / (np.arange(1, size + 1) - 0.5))
    theta = grid / (PRIOR_SCALE * exceed[:, _quartile(num_tail), None]) + 1.0 / exceed[:, -1:]
    shape = np.log1p(-theta[:, :, None] * exceed[:, None, :]).mean(axis=2)
    profile = num_tail * (np.log(-theta / shape) - shape - 1.0)
    weight = np.exp(profile - logsumexp(profile, axis=1, keepdims=True))
    theta = (theta * weight).sum(axis=1) / weight.sum(axis=1)
    shape = np.log1p(-theta[:, None] * exceed).mean(axis=1)
    return shape, -shape / theta


def _quantiles(khat: Float64Array, scale: Float64Array, cutoff: Float64Array, num_tail: int) -> Float64Array:
    """Log of the fitted tail's expected order statistics, shape (column, tail)."""
    log_survival = np.log1p(-(np.arange(num_tail) + 0.5) / num_tail)
    shape = np.where(khat == 0.0, np.finfo(float).tiny, khat)[:, None]
    return np.log(cutoff + scale[:, None] * np.expm1(-shape * log_survival) / shape)
