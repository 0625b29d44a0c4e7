"""The generalised Pareto tail of importance ratios: its shape, and its expected order statistics in their place.

Zhang and Stephens (2009), A new and efficient estimation method for the generalized Pareto distribution, Technometrics
51(3); Vehtari, Simpson, Gelman, Yao and Gabry (2024), Pareto smoothed importance sampling, JMLR 25(72).
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

Float64Array = NDArray[np.float64]

ROUNDING = 1e-6
"""Nats; weights this equal are those of the target itself."""
LEAST = 1e-300
"""Of a quartile of exceedances that something can be divided by."""
PRIOR_SCALE, PRIOR_SHAPE, PRIOR_DRAWS = 3.0, 0.5, 10.0
"""Of Zhang and Stephens' grid, and of the weak prior that pulls k-hat towards a half, worth ten tail draws."""


def tail_length(num_draws: int, relative_efficiency: float = 1.0) -> int:
    """How many draws the tail holds: the smaller of 3 sqrt(S / efficiency) and a fifth."""
    return min(math.floor(3.0 * math.sqrt(num_draws / relative_efficiency)), num_draws // 5)


def smooth_tail(largest: Float64Array, smallest: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Shape of the tail of each column of log ratios, and the tail smoothed.

    Args:
        largest: the cutoff and, above it, the tail: ascending log ratios in nats less the largest of the column, shape
            (column, 1 + tail). Overwritten.
        smallest: the least of all log ratios of the column, less the largest, shape (column,).

    Returns:
        k-hat (unitless), shape (column,): 0 where all ratios are equal or the tail is tied at its largest value, inf
        where the ratios span so many nats that one draw carries all the weight, NaN where ties leave no tail to fit or
        a column holds what is not a number. And the log ratios of the tail, shape (column, tail): smoothed where there
        is a fit, unchanged elsewhere.
    """
    num_tail = largest.shape[1] - 1
    khat = _degenerate(largest, smallest)
    rest = np.isnan(khat) & np.isfinite(largest[:, -1])
    exceed = np.exp(largest[:, 1:]) - np.exp(largest[:, :1])
    fit = rest & (exceed[:, _quartile(num_tail)] > LEAST)
    # the fit divides by the lower quartile of the exceedances: where that underflows one draw carries all the weight
    tied = (largest[:, 1 + _quartile(num_tail)] == largest[:, 0]) & (np.exp(largest[:, 0]) > 0.0)
    khat[rest & ~fit & ~tied] = math.inf
    tail = largest[:, 1:]
    if fit.any():
        shape, scale = _generalised_pareto(exceed[fit])
        khat[fit] = (num_tail * shape + PRIOR_DRAWS * PRIOR_SHAPE) / (num_tail + PRIOR_DRAWS)
        tail[fit] = np.minimum(_quantiles(khat[fit], scale, np.exp(largest[fit, :1]), num_tail), 0.0)
    return khat, tail


def grid_size(num_tail: int) -> int:
    """Points of the grid behind one fit; it holds as many times `num_tail` numbers."""
    return 30 + int(math.sqrt(num_tail))


def _degenerate(largest: Float64Array, smallest: Float64Array) -> Float64Array:
    """0 where all ratios are equal but for rounding, or an atom stands at the largest; NaN elsewhere."""
    bounded = (-smallest <= ROUNDING) | (largest[:, 1] == largest[:, -1])
    return np.where(bounded, 0.0, math.nan)


def _quartile(num_tail: int) -> int:
    return int(num_tail / 4 + 0.5) - 1


def _generalised_pareto(exceed: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Zhang and Stephens' estimates of shape (before the prior) and scale from ordered exceedances (column, tail)."""
    num_tail = exceed.shape[1]
    size = grid_size(num_tail)
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
    with np.errstate(over="ignore"):  # of tails so heavy, the largest is what the caller puts in its place
        return np.log(cutoff + scale[:, None] * np.expm1(-shape * log_survival) / shape)
