"""When a stochastic optimisation at a fixed step size has stopped improving."""

import numpy as np

MIN_STEPS = 300
TOLERANCE_NATS = 0.02
RELATIVE_TOLERANCE = 1e-5
NUM_BATCHES = 10


def has_settled(losses: np.ndarray) -> bool:
    """Whether the loss has stopped falling, judged on windows that grow with the trace.

    The third quarter of the trace is compared with the fourth. It has settled when the mean loss fell by less than the
    tolerance, and the difference is known well enough to say so (batch means; Flegal and Jones 2010).

    Args:
        losses: negative ELBO in nats at each step so far, shape (step,).
    """
    if len(losses) < MIN_STEPS:
        return False
    quarter = len(losses) // 4
    earlier, later = losses[-2 * quarter : -quarter], losses[-quarter:]
    fall = float(np.mean(earlier) - np.mean(later))
    error = float(np.hypot(_standard_error(earlier), _standard_error(later)))
    tolerance = max(TOLERANCE_NATS, RELATIVE_TOLERANCE * abs(float(np.mean(later))))
    return fall + error < tolerance


def _standard_error(window: np.ndarray) -> float:
    size = len(window) // NUM_BATCHES
    means = window[: size * NUM_BATCHES].reshape(NUM_BATCHES, size).mean(axis=1)
    return float(np.std(means, ddof=1) / np.sqrt(NUM_BATCHES))
