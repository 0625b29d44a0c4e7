"""Confidence intervals of estimates that are about normal."""

import numpy as np
from numpy.typing import NDArray
from scipy import special

Float64Array = NDArray[np.float64]


def interval_of(
    value: Float64Array, error: Float64Array, degrees_of_freedom: float | Float64Array, confidence: float
) -> Float64Array:
    """Ends of the normal interval, or of Student's where the degrees of freedom are finite; shape (2, *shape)."""
    tail = 0.5 + 0.5 * confidence
    freedom = np.asarray(degrees_of_freedom, dtype=float)
    many = ~np.isfinite(freedom) | (freedom > 1e9)
    quantile = np.where(many, special.ndtri(tail), special.stdtrit(np.where(many, 1.0, np.maximum(freedom, 1.0)), tail))
    return np.stack([value - quantile * error, value + quantile * error])
