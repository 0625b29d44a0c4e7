"""The tail of weights: whether their mean can have an error."""

import math

import numpy as np

from ppl_models.checks import Check
from ppl_models.inference.methods.smoothing import smoothed_weights

KHAT_LIMIT = 0.7


def check_tail(name: str, log_weights: np.ndarray, advice: str) -> Check:
    """Whether the weights have a mean and an error that can be seen: their Pareto k-hat against 0.7.

    Args:
        name: of the check.
        log_weights: nats, shape (draw,); with fewer than 100 there is nothing to measure.
        advice: what to do where it is too large.
    """
    _, khat = smoothed_weights(log_weights)
    if math.isnan(khat):
        detail = f"not measured: {len(log_weights):,} weights, or ties among the largest"
        return Check(name, khat, KHAT_LIMIT, None, advice, detail=detail)
    passed = khat <= KHAT_LIMIT
    return Check(name, khat, KHAT_LIMIT, passed, "" if passed else advice, detail=f"{len(log_weights):,} weights")
