"""Pareto-smoothed importance weights for use inside a method; the checks of a fit judge it by draws of their own."""

from typing import Any

import numpy as np
from arviz_stats.base import array_stats
from scipy.special import logsumexp

MIN_DRAWS = 100
TIED = 1e-9
"""Nats by which the tail of the ratios must vary to be fitted."""


def smoothed_weights(log_ratio: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights and k-hat (Vehtari, Simpson, Gelman, Yao and Gabry 2024, Pareto smoothed importance sampling).

    Args:
        log_ratio: log p - log q in nats, shape (draw,); what is not finite has no weight.

    Returns:
        The weights, shape (draw,), which sum to one (all zero where no ratio is finite), and k-hat: NaN where there
        are fewer than 100 draws or no tail, 0 where all ratios are equal; the weights are not smoothed then.
    """
    ratio = np.where(np.isfinite(log_ratio), log_ratio, -np.inf)
    if not np.isfinite(ratio).any():
        return np.zeros(len(ratio)), float("nan")
    centred = ratio - ratio.max()
    plain = np.exp(centred - logsumexp(centred))
    tail = np.sort(centred)[-max(5, min(len(ratio) // 5, int(3 * np.sqrt(len(ratio))))) :]
    if len(ratio) < MIN_DRAWS:
        return plain, float("nan")
    if np.ptp(centred) <= 1e-6:
        return plain, 0.0
    if not np.isfinite(tail).all() or np.ptp(tail) <= TIED:
        return plain, float("nan")
    with np.errstate(all="ignore"):
        # psislw negates its argument: it was written for log likelihoods that are left out
        found, khat = array_stats.psislw(-centred, r_eff=1)
    weights: Any = np.exp(np.asarray(found, dtype=float))
    if not np.isfinite(weights).all() or np.isnan(khat):
        return plain, float("nan")
    return weights / weights.sum(), float(khat)
