"""Convergence of many short chains at once: R-hat and effective draws of each column."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import rankdata

Float64Array = NDArray[np.float64]


def rank_normalised(draws: Float64Array) -> Float64Array:
    """Normal scores of the ranks among all draws of a column.

    Args:
        draws: shape (chain, draw, column).
    """
    flat = draws.reshape(-1, draws.shape[-1])
    ranks = rankdata(flat, axis=0)
    return ndtri((ranks - 0.375) / (len(flat) + 0.25)).reshape(draws.shape)


def split(draws: Float64Array) -> Float64Array:
    """Each chain as two halves, shape (2 * chain, draw // 2, column)."""
    half = draws.shape[1] // 2
    return np.concatenate([draws[:, :half], draws[:, -half:]])


def rhat_columns(draws: Float64Array) -> Float64Array:
    """Rank-normalised split R-hat of each column.

    Args:
        draws: shape (chain, draw, column), at least 4 draws a chain.

    Returns:
        R-hat (unitless), shape (column,); NaN where nothing varies.

    Vehtari, Gelman, Simpson, Carpenter and Bürkner (2021), Rank-normalization, folding, and localization: an improved
    R-hat, Bayesian Analysis 16(2).
    """
    halves = split(rank_normalised(draws))
    length = halves.shape[1]
    within = halves.var(axis=1, ddof=1).mean(axis=0)
    between = halves.mean(axis=1).var(axis=0, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.sqrt((length - 1) / length + between / within)
    return np.where((within == 0) & (between == 0), np.nan, found)


def ess_columns(draws: Float64Array) -> Float64Array:
    """Effective number of draws for the mean of each column, of rank-normalised values.

    Args:
        draws: shape (chain, draw, column), at least 4 draws a chain.

    Returns:
        Effective draws, shape (column,); NaN where nothing varies.

    Vehtari and others (2021), with the initial monotone sequence of Geyer (1992), Practical Markov chain Monte Carlo.
    """
    halves = split(rank_normalised(draws))
    num_chains, length, num_columns = halves.shape
    centred = halves - halves.mean(axis=1, keepdims=True)
    spectrum = np.fft.rfft(centred, n=2 * length, axis=1)
    autocovariance = np.fft.irfft(spectrum * spectrum.conj(), n=2 * length, axis=1)[:, :length] / length
    within = autocovariance[:, 0].mean(axis=0) * length / (length - 1)
    between = halves.mean(axis=1).var(axis=0, ddof=1)
    total = within * (length - 1) / length + between
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = 1.0 - (within - autocovariance.mean(axis=0) * length / (length - 1)) / total
    correlation[0] = 1.0
    pairs = correlation[: length // 2 * 2].reshape(-1, 2, num_columns).sum(axis=1)
    alive = np.cumprod(pairs > 0, axis=0)
    monotone = np.minimum.accumulate(np.where(alive, pairs, 0.0), axis=0)
    time = np.maximum(2.0 * monotone.sum(axis=0) - 1.0, 1.0 / np.log10(max(num_chains * length, 10)))
    return np.where(total > 0, num_chains * length / time, np.nan)
