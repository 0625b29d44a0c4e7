"""Statistics of data for predictive checks: by name, for many replicates at once, and which suit which data."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Float64Array = NDArray[np.float64]
Statistic = Callable[[Float64Array], Float64Array]
"""Takes data of shape (draw, element) and returns the statistic, shape (draw,)."""


def mean(values: Float64Array) -> Float64Array:
    """The mean."""
    return values.mean(axis=1)


def sd(values: Float64Array) -> Float64Array:
    """The standard deviation, of one less than the number of data."""
    return values.std(axis=1, ddof=1) if values.shape[1] > 1 else np.zeros(len(values))


def smallest(values: Float64Array) -> Float64Array:
    """The smallest value."""
    return values.min(axis=1)


def largest(values: Float64Array) -> Float64Array:
    """The largest value."""
    return values.max(axis=1)


def median(values: Float64Array) -> Float64Array:
    """The median."""
    return np.median(values, axis=1)


def zeros(values: Float64Array) -> Float64Array:
    """The share of zeros."""
    return (values == 0).mean(axis=1)


def runs(values: Float64Array) -> Float64Array:
    """The number of runs of equal values, in the order of the data: few where neighbours are alike."""
    return 1.0 + (np.diff(values, axis=1) != 0).sum(axis=1)


def autocorrelation(values: Float64Array) -> Float64Array:
    """The correlation of neighbours, in the order of the data; 0 where the data do not vary."""
    centred = values - values.mean(axis=1, keepdims=True)
    total = (centred**2).sum(axis=1)
    products = (centred[:, 1:] * centred[:, :-1]).sum(axis=1)
    return np.divide(products, total, out=np.zeros(len(values)), where=total > 0)


STATISTICS: dict[str, Statistic] = {
    "mean": mean,
    "sd": sd,
    "min": smallest,
    "max": largest,
    "median": median,
    "zeros": zeros,
    "runs": runs,
    "autocorrelation": autocorrelation,
}

CONTINUOUS = ("mean", "sd", "min", "max")
COUNTS = ("mean", "sd", "max", "zeros")
BINARY = ("mean", "runs")


def suited(*, discrete: bool, binary: bool) -> tuple[str, ...]:
    """Names of the statistics that say most about data of a kind."""
    if binary:
        return BINARY
    return COUNTS if discrete else CONTINUOUS


def spread_along(axis: int) -> Statistic:
    """The sd of the means of the slices along one axis: do groups differ as the model says?

    The function takes data of shape (draw, *event); `axis` counts the event's axes from 0.
    """

    def spread(values: Float64Array) -> Float64Array:
        others = tuple(other for other in range(1, values.ndim) if other != axis + 1)
        return values.mean(axis=others).std(axis=1, ddof=1)

    return spread
