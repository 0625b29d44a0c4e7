"""When a stochastic optimisation at a fixed step size has stopped improving."""

import numpy as np

MIN_STEPS = 300
NATS_PER_THOUSAND_STEPS = 0.2
NUM_ERRORS = 3.0
NUM_BATCHES = 10


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


def _standard_error(window: np.ndarray) -> float:
    size = len(window) // NUM_BATCHES
    means = window[: size * NUM_BATCHES].reshape(NUM_BATCHES, size).mean(axis=1)
    return float(np.std(means, ddof=1) / np.sqrt(NUM_BATCHES))
