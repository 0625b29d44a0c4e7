"""Which of many weighted draws to keep, so that what is kept counts equally: by resampling, or by a Markov chain."""

import numpy as np
from numpy.typing import NDArray

from ppl_models.errors import DataError
from ppl_models.seeds import child_seed

Float64Array = NDArray[np.float64]
Indices = NDArray[np.intp]

START = -1
"""Stands in a path for the draw that the chain started from."""


def systematic(log_weights: Float64Array, num_draws: int, seed: int) -> Indices:
    """Indices of `num_draws` draws in proportion to their weights, in random order, by systematic resampling.

    A draw of weight w comes floor(M w) or ceil(M w) times among M = `num_draws`, M w times on average: no other scheme
    adds less noise of its own, and none of the draws with M w below one comes twice.

    Args:
        log_weights: shape (draw,); their exponentials sum to one, but for rounding.
        num_draws: how many.
        seed: of the one uniform number and of the order.

    Raises:
        DataError: weights that are NaN, infinite, or all zero.

    Douc, Cappé and Moulines (2005), Comparison of resampling schemes for particle filtering, ISPA.
    """
    rng = np.random.default_rng(seed)
    edges = np.cumsum(_weights(log_weights))
    places = (rng.uniform() + np.arange(num_draws)) / num_draws * edges[-1]
    return rng.permutation(np.searchsorted(edges, places).clip(0, len(edges) - 1))


def resampling_variance(log_weights: Float64Array, num_draws: int) -> Float64Array:
    """What each weighted draw adds to the variance of a mean over draws resampled from them.

    The variance of the mean of x over M draws resampled systematically is, to first order, the sum over the draws of
    v_i (x_i - E x)², with

        v_i = w_i² + f_i (1 - f_i) / M²,  f_i = M w_i - floor(M w_i):

    by the law of total variance, the first part is that of the weighted mean (delta method for self-normalised
    weights), the second that of the counts, which are floor(M w_i) or one more, with probability f_i. The order of the
    draws is random, so the counts hang together only through their sum, which makes the second part an upper bound.
    Where every M w_i is below one, v_i = w_i / M: the draws kept are as good as M independent ones.

    Args:
        log_weights: shape (draw,); their exponentials sum to one, but for rounding.
        num_draws: M, how many draws are resampled.

    Returns:
        v, shape (draw,).

    Raises:
        DataError: weights that are NaN, infinite, or all zero.
    """
    weights = _weights(log_weights)
    weights = weights / weights.sum()
    counts = num_draws * weights
    rest = counts - np.floor(counts)
    return weights**2 + rest * (1.0 - rest) / num_draws**2


def independence_path(log_ratio: Float64Array, start: Float64Array, log_uniform: Float64Array) -> Indices:
    """Independence Metropolis-Hastings: which proposal each chain stands at after each step.

    The proposals are independent draws of q. From a state of ratio r = log p - log q, proposal t is taken with
    probability min(1, exp(r_t - r)), which leaves p as it is (detailed balance).

    Args:
        log_ratio: log p - log q in nats of the proposals, shape (chain, step); -inf is never taken.
        start: the same of each chain's first state, shape (chain,); finite.
        log_uniform: logs of independent uniform numbers on (0, 1), shape (chain, step).

    Returns:
        The step whose proposal is the state, -1 for the start, shape (chain, step).

    Raises:
        DataError: shapes that do not agree; NaN or +inf among the ratios; a start that is not finite.

    Tierney (1994), Markov chains for exploring posterior distributions, Annals of Statistics 22(4); Liu (1996),
    Metropolized independent sampling with comparisons to rejection sampling and importance sampling, Statistics and
    Computing 6.
    """
    if log_ratio.ndim != 2 or log_ratio.shape != log_uniform.shape or start.shape != log_ratio.shape[:1]:
        raise DataError(
            f"independence_path: shapes {log_ratio.shape}, {start.shape}, {log_uniform.shape} of log_ratio, start and "
            "log_uniform; needs (chain, step), (chain,), (chain, step)."
        )
    if np.isnan(log_ratio).any() or np.isposinf(log_ratio).any() or not np.isfinite(start).all():
        raise DataError(
            "independence_path: log ratios that are NaN or +inf, or a start without density; needs finite ratios, or "
            "-inf for what has no posterior density. Evaluate both densities in float64."
        )
    bars = np.ascontiguousarray(log_uniform.T)
    ratios = np.ascontiguousarray(log_ratio.T)
    path = np.empty(ratios.shape, dtype=np.intp)
    state, current = np.full(start.shape, START, dtype=np.intp), start.astype(float)
    for step, (ratio, bar) in enumerate(zip(ratios, bars, strict=True)):
        taken = ratio > current + bar
        current = np.where(taken, ratio, current)
        path[step] = state = np.where(taken, step, state)
    return path.T


def longest_stay(path: Indices) -> int:
    """Most steps that a chain of `independence_path` stands at one draw, over all chains, shape (chain, step)."""
    return max((int(np.bincount(chain - START).max()) for chain in path if chain.size), default=0)


def acceptance_rate(path: Indices) -> float:
    """Share of the proposals that were taken, in a path of `independence_path`, shape (chain, step)."""
    return float((path == np.arange(path.shape[1])).mean()) if path.size else float("nan")


def metropolise(log_ratio: Float64Array, start: Float64Array, seed: int) -> Indices:
    """`independence_path` with uniform numbers of a seed."""
    rng = np.random.default_rng(child_seed(seed, "accept"))
    return independence_path(log_ratio, start, np.log1p(-rng.random(log_ratio.shape)))


def _weights(log_weights: Float64Array) -> Float64Array:
    if np.isnan(log_weights).any() or np.isposinf(log_weights).any() or np.isneginf(log_weights).all():
        raise DataError("log_weights: NaN, +inf, or -inf throughout; needs log weights of the draws. See psis_weights.")
    return np.exp(log_weights)
