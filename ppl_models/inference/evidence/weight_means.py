"""Log evidence from log weights: their log mean exponential, and the ratio of two runs that meet."""

import numpy as np
from scipy.special import expit, logsumexp

from ppl_models.inference.intervals import interval_of

BISECTIONS = 80


def log_mean(log_weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log of the mean of exponentials along the first axis, and its standard error.

    Args:
        log_weights: nats, shape (draw, *datum); -inf is a weight of zero.

    Returns:
        Both in nats, shape (*datum); the error by the delta method, NaN where no weight is above zero.
    """
    count = len(log_weights)
    found = logsumexp(log_weights, axis=0) - np.log(count)
    with np.errstate(invalid="ignore"):
        relative = np.exp(log_weights - found)
        error = relative.std(axis=0, ddof=1) / np.sqrt(count) if count > 1 else np.full(found.shape, np.nan)
    return np.asarray(found), np.asarray(error)


def unbiased(bound: np.ndarray, error: np.ndarray) -> np.ndarray:
    """The log of a mean without its bias of first order, which sums over many data while their errors average out.

    Log of a mean of n weights is -variance / (2 n mean^2) off, which is half its squared standard error.

    Args:
        bound: log mean in nats, as `log_mean` gives it.
        error: its standard error; NaN corrects nothing.

    Returns:
        Nats, same shape; no bound any more.
    """
    return bound + 0.5 * np.nan_to_num(error, nan=0.0) ** 2


def effective_number(log_weights: np.ndarray) -> np.ndarray:
    """(sum w)^2 / sum w^2 along the first axis, shape (*datum); 0 where no weight is above zero."""
    with np.errstate(invalid="ignore"):
        once, twice = (np.asarray(logsumexp(power * log_weights, axis=0)) for power in (1.0, 2.0))
        found = np.exp(2.0 * once - twice)
    return np.nan_to_num(found, nan=0.0)


def meeting(forward: np.ndarray, reverse: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The log evidence at which a forward and a reverse run meet, and its standard error.

    The ratio of normalising constants with the least variance that the log weights of both runs allow: the root in c of
    sum over forward of s(l - c + log m/n) = sum over reverse of s(c - l - log m/n), with s the logistic function.

    Args:
        forward: log weights in nats, shape (draw, *datum).
        reverse: log weights of the reverse run in nats, shape (draw, *datum).

    Returns:
        Both in nats, shape (*datum); NaN where a run has no finite weight. The root is given without its bias of order
        1/n, as of any root of a mean.

    Bennett (1976), Efficient estimation of free energy differences from Monte Carlo data; Meng and Wong (1996),
    Simulating ratios of normalizing constants via a simple identity.
    """
    forward, reverse = (np.where(np.isnan(one), -np.inf, one) for one in (forward, reverse))
    shift = np.log(len(reverse) / len(forward))
    both = np.concatenate([forward, reverse])
    finite = np.isfinite(both)
    low = np.where(finite, both, np.inf).min(axis=0) - abs(shift) - 50.0
    high = np.where(finite, both, -np.inf).max(axis=0) + abs(shift) + 50.0
    with np.errstate(invalid="ignore", divide="ignore"):
        for _ in range(BISECTIONS):
            middle = 0.5 * (low + high)
            above = expit(forward - middle + shift).sum(axis=0) > expit(middle - reverse - shift).sum(axis=0)
            low, high = np.where(above, middle, low), np.where(above, high, middle)
        found = 0.5 * (low + high)
        parts = (expit(forward - found + shift), expit(found - reverse - shift))
        variance = sum(part.var(axis=0, ddof=1) / (len(part) * part.mean(axis=0) ** 2) for part in parts)
        found = found - _bias_of_root(*parts)
    known = np.isfinite(forward).any(axis=0) & np.isfinite(reverse).any(axis=0)
    return np.where(known, found, np.nan), np.where(known, np.sqrt(variance), np.nan)


def _bias_of_root(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Of second order: of the root of mean s(l - c) = mean s(c - l), whose terms are given, shape (draw, *datum)."""
    slopes, bends = [], []
    for part in (first, second):
        slopes.append(part * (1.0 - part))
        bends.append((slopes[-1] * (1.0 - 2.0 * part)).mean(axis=0))
    slope = -(slopes[0].mean(axis=0) + slopes[1].mean(axis=0))
    variance, covariance = np.zeros_like(slope), np.zeros_like(slope)
    for sign, part, change in ((-1.0, first, slopes[0]), (1.0, second, slopes[1])):
        count = len(part)
        variance += part.var(axis=0, ddof=1) / count
        covariance += sign * ((part - part.mean(axis=0)) * change).sum(axis=0) / (count * (count - 1))
    return covariance / slope**2 - 0.5 * (bends[0] - bends[1]) * variance / slope**3


def interval(estimate: np.ndarray, error: np.ndarray, count: int, confidence: float) -> np.ndarray:
    """Ends of a confidence interval by Student's t with `count` - 1 degrees of freedom, shape (2, *datum)."""
    with np.errstate(invalid="ignore"):
        return interval_of(estimate, error, max(count - 1, 1), confidence)
