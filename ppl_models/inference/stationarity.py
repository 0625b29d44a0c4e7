"""When a stochastic optimisation at a fixed step size has stopped improving, and how far its average is from the end.

Welandawe, Andersen, Vehtari and Huggins (2024), A framework for improving the reliability of black-box variational
inference, for the plan: stationarity by R-hat over windows of the iterates, averages of the iterates from there, a
lower step size, and an end when that gains too little.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student_t

MIN_STEPS = 300
NATS_PER_THOUSAND_STEPS = 0.2
NUM_ERRORS = 3.0
NUM_BATCHES = 10
BLOCKS = 4
CHANCE = 0.01
"""How often chance alone may call steady iterates drifting, over all parameters together."""
SLOWEST_DRIFT = 0.02
"""Of the pace of steps all in one direction; Adam goes slower only where its gradient is nearly all noise."""


@dataclass(frozen=True)
class Drift:
    """Whether a window of iterates drifts.

    Attributes:
        rhat: the largest R-hat of its two halves.
        limit: what chance alone seldom exceeds.
        drifting: whether a parameter is above the limit, and goes at a pace that is a good share of what steps all in
            one direction would make.
    """

    rhat: float
    limit: float
    drifting: bool


def drift_of(records: np.ndarray, pace: float) -> Drift:
    """R-hat of the two halves of a window of iterates, with the limit that chance seldom exceeds.

    With two chains R-hat is a function of Student's t between them, which gives the limit: what steady, independent
    records exceed in one case in a hundred, over all parameters together.

    Args:
        records: means of consecutive iterates, shape (record, parameter); at least 4.
        pace: how far an optimiser goes from one record to the next if all its steps have one direction.
    """
    if not records.shape[1]:
        return Drift(1.0, 1.0, False)
    size = len(records) // 2
    earlier, later = records[-2 * size : -size], records[-size:]
    within = 0.5 * (earlier.var(axis=0, ddof=1) + later.var(axis=0, ddof=1))
    away = np.abs(earlier.mean(axis=0) - later.mean(axis=0))
    moving = within > np.square(np.finfo(float).eps * np.abs(records).max(axis=0))
    ratio = 0.5 * size * np.square(away[moving]) / within[moving]
    quantile = float(student_t.isf(0.5 * CHANCE / records.shape[1], 2 * size - 2)) ** 2
    base = (size - 1) / size
    drifting = bool(((ratio > quantile) & (away[moving] > SLOWEST_DRIFT * pace * size)).any())
    rhat, limit = (float(np.sqrt(base + value / size)) for value in (ratio.max(initial=0.0), quantile))
    return Drift(rhat, limit, drifting)


def block_means(records: np.ndarray) -> list[np.ndarray]:
    """The mean of a window of iterates, and those of its four quarters behind it, each of shape (parameter,).

    The first records are left out where four does not divide their number.
    """
    size = len(records) // BLOCKS
    parts = records[len(records) - BLOCKS * size :].reshape(BLOCKS, size, -1).mean(axis=1)
    return [parts.mean(axis=0), *parts]


def gap_of_blocks(losses: np.ndarray) -> tuple[float, float]:
    """How far the loss at the mean of a window lies above its limit, by Monte Carlo error alone, and a standard error.

    The mean of a quarter has four times the variance of the whole mean, so that (to second order) its loss lies four
    times as far above the smallest: a third of the difference is what is left. First-order terms cancel, because the
    quarters lie around the mean.

    Args:
        losses: at the means that `block_means` gives, on common noise; shape (1 + 4, evaluation), in nats.
    """
    each = (losses[1:].mean(axis=0) - losses[0]) / (BLOCKS - 1)
    return float(each.mean()), _error(each)


def fall_over_blocks(losses: np.ndarray) -> tuple[float, float]:
    """By how much the loss at the means of the later two quarters lies below that of the earlier two; standard error.

    Args:
        losses: as for `gap_of_blocks`.
    """
    each = losses[1:3].mean(axis=0) - losses[3:].mean(axis=0)
    return float(each.mean()), _error(each)


def gain_between(before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """By how many nats the loss fell between two points evaluated on common noise, and its standard error."""
    each = before - after
    return float(each.mean()), _error(each)


def still_falls(losses: np.ndarray, limit: float) -> bool:
    """Whether the later half of a window's losses lies below the earlier, by more than a limit and chance."""
    half = len(losses) // 2
    earlier, later = losses[-2 * half : -half], losses[-half:]
    fall = float(np.mean(earlier) - np.mean(later))
    return fall > max(limit, NUM_ERRORS * float(np.hypot(_standard_error(earlier), _standard_error(later))))


def has_settled(losses: np.ndarray) -> bool:
    """Whether the loss has stopped falling, judged on windows that grow with the trace.

    The third quarter of the trace is compared with the fourth. It has settled when the loss falls by less than 0.2 nats
    in a thousand steps, and this is known well enough to say so: three standard errors above the fall seen (by batch
    means; Flegal and Jones 2010) are still below. A constant added to the loss changes nothing.

    Args:
        losses: negative ELBO in nats at each step so far, shape (step,).
    """
    if len(losses) < MIN_STEPS:
        return False
    quarter = len(losses) // 4
    earlier, later = losses[-2 * quarter : -quarter], losses[-quarter:]
    fall = float(np.mean(earlier) - np.mean(later))
    error = float(np.hypot(_standard_error(earlier), _standard_error(later)))
    return fall + NUM_ERRORS * error < NATS_PER_THOUSAND_STEPS * quarter / 1_000


def _error(values: np.ndarray) -> float:
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else np.inf


def _standard_error(window: np.ndarray) -> float:
    size = len(window) // NUM_BATCHES
    means = window[: size * NUM_BATCHES].reshape(NUM_BATCHES, size).mean(axis=1)
    return float(np.std(means, ddof=1) / np.sqrt(NUM_BATCHES))
