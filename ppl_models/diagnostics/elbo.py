"""The ELBO and the gap that importance weighting closes."""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logsumexp

from ppl_models.diagnostics.khat import valid_log_ratio


def elbo_estimate(log_ratio: ArrayLike) -> tuple[float, float]:
    """Evidence lower bound E_q[log p - log q].

    Args:
        log_ratio: log p - log q in nats, shape (draw,), independent draws of q; at least 100.

    Returns:
        The estimate and its Monte Carlo standard error, in nats; (-inf, NaN) when a draw has zero density under p.

    Raises:
        DataError: wrong shape, fewer than 100 draws, NaN or +inf among the ratios, or all of them -inf.
    """
    ratios = valid_log_ratio(log_ratio)
    if np.isneginf(ratios).any():
        return -math.inf, math.nan
    return float(ratios.mean()), float(ratios.std(ddof=1) / math.sqrt(ratios.size))


def bound_gap(log_ratio: ArrayLike) -> tuple[float, float]:
    """Gap between the importance-weighted bound and the ELBO: log mean w - mean log w.

    It estimates KL(q || p(. | data)) from below: the importance-weighted bound of all S draws is itself a lower bound
    of the log evidence.

    Args:
        log_ratio: log p - log q in nats, shape (draw,), independent draws of q; at least 100.

    Returns:
        The gap, at least 0, and its Monte Carlo standard error (delta method), in nats; (inf, NaN) when a draw has
        zero density under p. The error is honest only while k-hat is below 0.5, where the weights have a variance.

    Raises:
        DataError: as `elbo_estimate`.

    Burda, Grosse and Salakhutdinov (2016), Importance weighted autoencoders.
    """
    ratios = valid_log_ratio(log_ratio)
    if np.isneginf(ratios).any():
        return math.inf, math.nan
    log_mean_weight = float(np.asarray(logsumexp(ratios))) - math.log(ratios.size)
    influence = np.exp(ratios - log_mean_weight) - ratios
    gap = max(log_mean_weight - float(ratios.mean()), 0.0)
    return gap, float(influence.std(ddof=1) / math.sqrt(ratios.size))
