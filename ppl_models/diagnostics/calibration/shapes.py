"""What a set of ranks says of the posterior, in words."""

import numpy as np
from numpy.typing import NDArray

NOTICEABLE = 2.0
"""Standard errors from which a second fault is named beside the first."""


def rank_moments(ranks: NDArray, num_draws: int) -> tuple[NDArray, NDArray]:
    """Mean of the ranks and their spread, each quantity's as it is for uniform ranks plus standard errors.

    Args:
        ranks: shape (simulation, quantity).
        num_draws: number of draws that were ranked among.

    Returns:
        How many standard errors the mean is above the uniform's, and the mean square distance from the middle above the
        uniform's; each of shape (quantity,).
    """
    number, top = len(ranks), num_draws + 1.0
    away = (2.0 * ranks - num_draws) / top  # on (-1, 1)
    square = away**2
    # Moments of the discrete uniform distribution on the odd or even numbers between -num_draws and num_draws.
    levels = (2.0 * np.arange(num_draws + 1) - num_draws) / top
    mean_square = float((levels**2).mean())
    sd_square = float((levels**2).std())
    bias = away.mean(axis=0) / np.sqrt(mean_square / number)
    spread = (square.mean(axis=0) - mean_square) / (sd_square / np.sqrt(number)) if sd_square else np.zeros_like(bias)
    return bias, spread


def shape_in_words(bias: float, spread: float, *, symmetry: bool = False) -> str:
    """Name the fault of a posterior whose ranks depart from what they should be: the larger departure first.

    Args:
        bias: standard errors by which the mean rank is above the uniform's: truths above the draws.
        spread: the same of the mean square distance from the middle: truths in the tails of the draws.
        symmetry: whether the spread is none of the fault.
    """
    if symmetry:
        return f"biased {'low' if bias > 0 else 'high'}" if abs(bias) >= NOTICEABLE else "lopsided"
    faults = sorted(
        [
            (abs(spread), "too narrow" if spread > 0 else "too wide"),
            (abs(bias), f"biased {'low' if bias > 0 else 'high'}"),
        ],
        reverse=True,
    )
    named = [words for size, words in faults if size >= NOTICEABLE]
    return " and ".join(named) if named else "uneven"
