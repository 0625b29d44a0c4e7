"""Whether rows that a model generates have features like those of the data."""

import math

import numpy as np
from numpy.typing import ArrayLike

from ppl_models.checks import Check
from ppl_models.errors import DataError

NAME = "generated features"
LIMIT = 0.2
"""In sds of each feature: root mean square error of the features' means."""
RESOLUTION = 2.0
ADVICE = "a prior nearer to the aggregated posterior, or a decoder that fits better"


def check_generated(generated: ArrayLike, observed: ArrayLike) -> Check:
    """Hold the means of generated features against those of the data: what the prior's mismatch does to generation.

    Args:
        generated: independent rows from the model, its latents drawn from the prior, shape (draw, feature).
        observed: the data, shape (row, feature).

    Returns:
        The check `generated features`: the root mean square over the features that vary of the error of their mean, in
        sds of the data, less what sampling alone gives. It sees means alone: that it passes says little, that it fails
        says that generated rows are off on average.

    Raises:
        DataError: the shapes do not agree.
    """
    rows, data = np.asarray(generated, dtype=float), np.asarray(observed, dtype=float)
    if rows.ndim != 2 or data.ndim != 2 or rows.shape[1] != data.shape[1]:
        raise DataError(f"generated: shape {rows.shape}, observed {data.shape}; needs (draw, feature), (row, feature).")
    if min(len(rows), len(data)) < 2 or not (np.isfinite(rows).all() and np.isfinite(data).all()):
        return Check(NAME, math.nan, LIMIT, None, "", detail="not measured: fewer than two rows, or not finite")
    sd = data.std(axis=0, ddof=1)
    vary = sd > 0.0
    if not vary.any():
        return Check(NAME, math.nan, LIMIT, None, "", detail="not measured: no feature of the data varies")
    errors = (rows.mean(axis=0) - data.mean(axis=0))[vary] / sd[vary]
    noise = rows.var(axis=0, ddof=1)[vary] / sd[vary] ** 2 / len(rows) + 1.0 / len(data)
    square = float((errors**2 - noise).mean())
    # Neighbouring features go together: the noise of a mean of squares is no smaller than that of a few of them.
    error = float(noise.mean())
    value = math.sqrt(max(square, 0.0))
    low, high = square - RESOLUTION * error, square + RESOLUTION * error
    passed = True if high <= LIMIT**2 else False if low > LIMIT**2 else None
    worst = int(np.flatnonzero(vary)[np.abs(errors).argmax()])
    detail = f"error of the mean in sds over {int(vary.sum())} features; the worst, feature {worst}, "
    detail += f"{errors[np.abs(errors).argmax()]:+.2f}"
    return Check(NAME, value, LIMIT, passed, {True: "", False: ADVICE, None: "more rows"}[passed], detail=detail)
