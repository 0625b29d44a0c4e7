"""Draws of a guide with the scores of the posterior at them, in coordinates where the guide has unit covariance."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ppl_models.diagnostics.deviations import is_constant
from ppl_models.errors import DataError

MIN_DRAWS = 200
DRAWS_PER_PARAMETER = 10
MAX_DROPPED = 0.01  # share of the draws whose score may be NaN or infinite

Float64Array = NDArray[np.float64]


class UnmeasurableError(Exception):
    """The draws do not allow the figure; a check turns it into `passed=None`."""


@dataclass(frozen=True)
class ScoredDraws:
    """Finite draws and scores.

    Attributes:
        points: draws, shape (draw, dim), each parameter in its own unit.
        scores: gradients of the log density at them, in nats per unit, shape (draw, dim).
        labels: one name per parameter.
        num_dropped: how many draws had no finite point or score and were left out.
    """

    points: Float64Array
    scores: Float64Array
    labels: tuple[str, ...]
    num_dropped: int


@dataclass(frozen=True)
class Whitened:
    """Draws in coordinates u of zero mean and unit covariance: point = mean + sd * (u @ root).

    The symmetric root of the correlation matrix is taken, so that coordinate i of u stays as near to parameter i as
    uncorrelated coordinates can.

    Attributes:
        coordinates: u, shape (draw, dim).
        scores: gradients with respect to u, in nats, shape (draw, dim).
        mean: of the points, shape (dim,).
        sd: of the points, shape (dim,).
        root: symmetric root of the points' correlation matrix, shape (dim, dim); its identity if only scaled.
    """

    coordinates: Float64Array
    scores: Float64Array
    mean: Float64Array
    sd: Float64Array
    root: Float64Array


def scored_draws(points: ArrayLike, scores: ArrayLike, labels: Sequence[str] | None = None) -> ScoredDraws:
    """Match points with scores and leave out the few draws where either is not finite.

    Args:
        points: draws, shape (draw, dim).
        scores: gradients of the log density, shape (draw, dim).
        labels: names of the parameters; `x[0]`, `x[1]`, … where none are given.

    Raises:
        DataError: the shapes do not match, or labels are too few, too many or not unique.
        UnmeasurableError: more than 1 % of the draws are not finite, or fewer than 200 are left.
    """
    found, gradients = (np.asarray(array, dtype=float) for array in (points, scores))
    if found.ndim != 2 or found.shape[1] == 0 or found.shape != gradients.shape:
        raise DataError(
            f"points and scores: shapes {found.shape} and {gradients.shape}, need (draw, dim) twice, the same. "
            "Stack the chains and take the gradient at these very points."
        )
    names = tuple(f"x[{place}]" for place in range(found.shape[1])) if labels is None else tuple(labels)
    if len(names) != found.shape[1] or len(set(names)) != len(names):
        raise DataError(
            f"labels: {len(names)} names, {len(set(names))} of them different, for {found.shape[1]} parameters; "
            "need one for each. Pass the names of the flat vector."
        )
    finite = np.isfinite(found).all(axis=1) & np.isfinite(gradients).all(axis=1)
    dropped = int((~finite).sum())
    if dropped > MAX_DROPPED * len(found):
        raise UnmeasurableError(f"{dropped:,} of {len(found):,} draws have no finite score")
    if len(found) - dropped < MIN_DRAWS:
        raise UnmeasurableError(f"{len(found) - dropped} draws, needs {MIN_DRAWS}")
    return ScoredDraws(found[finite], gradients[finite], names, dropped)


def whitened(draws: ScoredDraws, *, correlations: bool = True) -> Whitened:
    """Draws and scores in whitened coordinates.

    Args:
        draws: the draws.
        correlations: whether to take out the correlations too, or only to scale by the standard deviations.

    Raises:
        UnmeasurableError: a parameter is constant, or the draws are fewer than ten for each parameter or lie in a plane
            while correlations are wanted.
    """
    constant = is_constant(draws.points.T)
    if constant.any():
        raise UnmeasurableError(f"`{draws.labels[int(constant.argmax())]}` is constant among the draws")
    num_draws, dim = draws.points.shape
    mean = draws.points.mean(axis=0)
    centred = draws.points - mean
    sd = np.sqrt((centred**2).mean(axis=0))
    standard, gradients = centred / sd, draws.scores * sd
    if not correlations:
        return Whitened(standard, gradients, mean, sd, np.eye(dim))
    if num_draws < DRAWS_PER_PARAMETER * dim:
        raise UnmeasurableError(f"{num_draws:,} draws of {dim} parameters, needs {DRAWS_PER_PARAMETER} for each")
    # the singular values of the draws, not of their covariance: half the digits would be lost
    _, lengths, axes = np.linalg.svd(np.linalg.qr(standard, mode="r"))
    lengths = lengths / np.sqrt(num_draws)
    if lengths[-1] <= dim * np.finfo(float).eps * lengths[0] * 1e3:
        raise UnmeasurableError("the draws lie in a plane: a parameter repeats others")
    root = (axes.T * lengths) @ axes
    return Whitened(standard @ ((axes.T / lengths) @ axes), gradients @ root, mean, sd, root)
