"""Normal scores: every marginal bent to a standard normal by a reference's own distribution function."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from ppl_models.diagnostics.deviations import Sample

TAIL = 0.01  # scores end at the 1 % and 99 % quantiles, +-2.33

Float64Array = NDArray[np.float64]


def normal_scores(values: Float64Array, reference: Sample) -> Float64Array:
    """The scores Phi^-1(F(x)), F the weighted distribution function of the reference.

    One increasing map for each parameter, the same for fit and reference: a right fit has the right scores whatever
    the shape of the marginal. They are bounded, so that no draw of a heavy tail or of a funnel's neck carries a
    covariance alone. A ratio of widths is kept, for the reference's scores have unit sd, but for the clipping.

    Args:
        values: draws, shape (parameter, draw).
        reference: the same parameters.

    Returns:
        The scores, shape (parameter, draw); ties get the middle of their ranks.
    """
    probability = np.empty_like(values)
    for row, (found, ordered, weights) in enumerate(
        zip(values, reference.ordered, reference.ordered_weights, strict=True)
    ):
        cumulative = np.concatenate([[0.0], np.cumsum(weights)])
        below, above = (cumulative[np.searchsorted(ordered, found, side=side)] for side in ("left", "right"))
        probability[row] = 0.5 * (below + above)
    return ndtri(np.clip(probability, TAIL, 1.0 - TAIL))
