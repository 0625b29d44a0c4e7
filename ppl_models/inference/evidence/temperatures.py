"""Inverse temperatures at which a path from the start (0) to the posterior (1) is cut."""

from collections.abc import Sequence

import numpy as np

from ppl_models.errors import OptionError

SHARPNESS = 4.0
POWER = 5.0


def sigmoid_temperatures(count: int) -> np.ndarray:
    """Temperatures along a sigmoid, close together at both ends, where densities change fastest; shape (count + 1,).

    The schedule of Grosse, Ghahramani and Adams (2015), Sandwiching the marginal likelihood using bidirectional Monte
    Carlo.
    """
    place = 1.0 / (1.0 + np.exp(-SHARPNESS * np.linspace(-1.0, 1.0, count + 1)))
    found = (place - place[0]) / (place[-1] - place[0])
    found[0], found[-1] = 0.0, 1.0
    return found


def power_temperatures(count: int) -> np.ndarray:
    """Temperatures (i / count)^5, close together near the start; shape (count + 1,).

    The schedule of Friel and Pettitt (2008), Marginal likelihood estimation via power posteriors.
    """
    return np.linspace(0.0, 1.0, count + 1) ** POWER


def check_temperatures(given: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return temperatures that rise from 0 to 1.

    Raises:
        OptionError: they do not.
    """
    try:
        found = np.asarray(given, dtype=float)
    except (TypeError, ValueError):
        found = np.zeros(0)
    if found.ndim != 1 or len(found) < 2 or found[0] != 0.0 or found[-1] != 1.0 or not (np.diff(found) > 0).all():
        raise OptionError(
            f"temperatures: found {str(given)[:80]}, wanted at least two numbers that rise from 0 (the start) to 1 "
            "(the posterior)."
        )
    return found
