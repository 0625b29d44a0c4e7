"""Simultaneous bands for the ECDF of uniform ranks, and exact p-values of leaving them."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, bdtrc, gammaln

Float64Array = NDArray[np.float64]
ROUNDING = 1.0 + 1e-9
"""Tails that are equal by symmetry differ in their last bits."""
UNRESOLVED = 1e-11
BISECTIONS = 50


def ecdf_p_values(counts: NDArray, num_simulations: int, probabilities: NDArray) -> Float64Array:
    """Exact p-value of each quantity's counts below a series of thresholds, all thresholds together.

    The statistic is the smallest of the binomial tail probabilities, over thresholds and sides. Its distribution under
    uniform ranks is computed, not simulated: the counts are the path of a Poisson process given its end.

    Args:
        counts: how many of the simulations fall below each threshold, shape (quantity, threshold).
        num_simulations: number of simulations.
        probabilities: what uniform ranks give each threshold, increasing, above 0 and below 1, shape (threshold,).

    Returns:
        P-values, shape (quantity,): under independent uniform ranks each is at most a with probability at most a.

    Säilynoja, Bürkner and Vehtari (2022), Graphical test for discrete uniformity, Statistics and Computing 32;
    Moscovich and Nadler (2017), Fast calculation of boundary crossing probabilities for Poisson processes.
    """
    given = tuple(float(value) for value in probabilities)
    below, above = _tails(num_simulations, given)
    places = np.arange(len(given))
    smallest = np.minimum(below[places, counts], above[places, counts]).min(axis=1)
    found = np.array([1.0 - _inside(float(tail) * ROUNDING, num_simulations, given) for tail in smallest])
    # What is beyond the resolution of one less a probability has the sum of all tails for a bound.
    return np.where(found < UNRESOLVED, 2.0 * len(given) * smallest, found).clip(0.0, 1.0)


def ecdf_band(num_simulations: int, probabilities: NDArray, *, probability: float = 0.95) -> tuple[NDArray, NDArray]:
    """Counts between which all thresholds' counts stay together, with the probability asked for or more.

    Args:
        num_simulations: number of simulations.
        probabilities: of each threshold, increasing, shape (threshold,).
        probability: that uniform ranks stay inside.

    Returns:
        Least and greatest counts, each of shape (threshold,).
    """
    given = tuple(float(value) for value in probabilities)
    return _bounds(_tail_of_band(num_simulations, given, probability), num_simulations, given)


def thresholds(num_draws: int, most: int = 100) -> NDArray[np.int64]:
    """Ranks below which to count: all from 1 to `num_draws`, or `most` of them evenly apart."""
    return np.unique(np.rint(np.linspace(1, num_draws, min(num_draws, most))).astype(np.int64))


@lru_cache(maxsize=64)
def _tail_of_band(num_simulations: int, probabilities: tuple[float, ...], probability: float) -> float:
    low, high = 0.0, 1.0
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        if _inside(middle, num_simulations, probabilities) >= probability:
            low = middle
        else:
            high = middle
    return low


@lru_cache(maxsize=16)
def _tails(num_simulations: int, probabilities: tuple[float, ...]) -> tuple[Float64Array, Float64Array]:
    """P(count <= c) and P(count >= c), shape (threshold, num_simulations + 1)."""
    counts, each = np.arange(num_simulations + 1.0), np.array(probabilities)[:, None]
    below = bdtr(counts, num_simulations, each)
    above = np.concatenate([np.ones((len(each), 1)), bdtrc(counts[:-1], num_simulations, each)], axis=1)
    return below, above


def _bounds(tail: float, num_simulations: int, probabilities: tuple[float, ...]) -> tuple[NDArray, NDArray]:
    below, above = _tails(num_simulations, probabilities)
    return (below <= tail).sum(axis=1), num_simulations - (above <= tail).sum(axis=1)


@lru_cache(maxsize=4096)
def _inside(tail: float, num_simulations: int, probabilities: tuple[float, ...]) -> float:
    """Probability that no threshold's count has a tail of `tail` or less."""
    lower, upper = _bounds(tail, num_simulations, probabilities)
    if (lower > upper).any():
        return 0.0
    steps = np.diff([0.0, *probabilities, 1.0]) * num_simulations
    state, first = np.ones(1), 0
    for step, low, high in zip(steps[:-1], lower, upper, strict=True):
        reached = np.convolve(state, _poisson(np.arange(high - first + 1), step))
        state, first = reached[low - first : high - first + 1], int(low)
    left = num_simulations - first - np.arange(len(state))
    path = float(state @ _poisson(left, steps[-1]))
    return path / float(_poisson(np.array([num_simulations]), float(num_simulations))[0])


def _poisson(counts: NDArray, mean: float) -> Float64Array:
    return np.exp(counts * np.log(mean) - mean - gammaln(counts + 1.0))
