"""The evidence lower bound and its error."""

import math

import numpy as np
from numpy.typing import ArrayLike

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
