"""Whether rows are like a reference: p-values by rank of scalars and of several statistics together."""

import numpy as np
from numpy.typing import NDArray

Float64Array = NDArray[np.float64]


def lower_p_value(values: Float64Array, reference: Float64Array) -> Float64Array:
    """The share of the reference, with the row itself, that lies as low: shape (row,); NaN is as low as can be.

    Uniform from 1 / (R + 1) on where rows and reference are exchangeable.

    Vovk, Gammerman and Shafer (2005), Algorithmic learning in a random world, chapter 2.
    """
    ordered = np.sort(reference)
    below = np.searchsorted(ordered, np.nan_to_num(values, nan=-np.inf), side="right")
    return np.asarray((1.0 + below) / (1.0 + len(reference)), dtype=np.float64)


def distances(values: Float64Array, reference: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Squared Mahalanobis distances from the reference, of rows and of the reference's own, each without itself.

    Args:
        values: statistics, shape (row, statistic).
        reference: statistics, shape (reference row, statistic); more rows than statistics by three at least.

    Returns:
        Shapes (row,) and (reference row,). Directions in which the reference does not vary are left out.
    """
    number = len(reference)
    centred = reference - reference.mean(axis=0)
    sd = centred.std(axis=0)
    scale = np.where(sd > 1e-9 * np.abs(reference).max(axis=0), sd, np.inf)
    axes, lengths = _principal(centred / scale)
    own = (centred / scale) @ axes / lengths
    other = ((values - reference.mean(axis=0)) / scale) @ axes / lengths
    leverage = (own**2).sum(axis=1)
    # the mean and the scatter without a row, by the formula of Sherman and Morrison
    factor = number / (number - 1)
    left_out = (number - 2) * factor**2 * leverage / np.maximum(1.0 - factor * leverage, 1e-12)
    return (number - 1) * (other**2).sum(axis=1), left_out


def _principal(centred: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Axes of the scatter and the lengths along them, those without length left out."""
    _, lengths, axes = np.linalg.svd(centred, full_matrices=False)
    kept = lengths > 1e-6 * lengths.max(initial=0.0)
    return axes[kept].T, lengths[kept]
