"""How often an interval covers, and the band in which a right method's share must lie."""

import numpy as np
from scipy.stats import binom, t

BAND = (0.93, 0.97)
"""Asked for; with 1,500 runs or more a method that covers 95 % leaves it with a probability below 1e-3."""


def chance_of_leaving(num_runs: int) -> float:
    """Probability that a method that covers 95 % leaves the band in so many runs."""
    return float(binom.cdf(BAND[0] * num_runs - 1, num_runs, 0.95) + binom.sf(BAND[1] * num_runs, num_runs, 0.95))


def covered(values, errors, truth, degrees_of_freedom=np.inf) -> float:
    """Share of 95 % intervals that hold the truth."""
    reach = t.ppf(0.975, degrees_of_freedom) * np.asarray(errors)
    return float(np.mean(np.abs(np.asarray(values) - truth) <= reach))
