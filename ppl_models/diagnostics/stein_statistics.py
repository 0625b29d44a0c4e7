"""Stein's identities, one parameter or one pair of coordinates at a time."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from ppl_models.diagnostics.scored_draws import UnmeasurableError, scored_draws, whitened

STATISTICS = ("score_mean", "score_width")
NORMS = (math.sqrt(0.75 / math.sqrt(2.0)), math.sqrt(1.875 / math.sqrt(2.0)))  # under a standard normal density

Float64Array = NDArray[np.float64]


@dataclass(frozen=True)
class Shape:
    """How far the identities of higher order are from holding, shape (parameter,); 0 in expectation where q = p.

    Attributes:
        values: the largest among a parameter's pairs, shared out over correlated parameters.
        errors: Monte Carlo errors of the same, the largest among the pairs.
    """

    values: Float64Array
    errors: Float64Array


def stein_statistics(points: ArrayLike, scores: ArrayLike, labels: Sequence[str] | None = None) -> pd.DataFrame:
    """Which parameters' scores a guide has wrong, without any matrix to invert.

    If the guide q is the posterior p, then E_q[s_i] = 0 and E_q[s_i (z_i - m_i)] = -1 for the score s = grad log p and
    the guide's mean m. A positive `score_mean` says that the posterior rises towards larger values of the parameter, a
    positive `score_width` that the guide is narrower than the posterior; for a normal posterior of precision L and a
    guide of covariance S it is 1 - (L S)_ii.

    Args:
        points: independent draws of the guide, shape (draw, dim); at least 200.
        scores: gradient of the log density at the points, in nats per unit, shape (draw, dim).
        labels: names of the parameters; `x[0]`, `x[1]`, … where none are given.

    Returns:
        A frame indexed by parameter: `score_mean`, E_q[s_i] times the guide's sd; `score_width`,
        E_q[s_i (z_i - m_i)] + 1; each with `_mcse` and `_z`, its value in Monte Carlo errors, standard normal where
        q = p. All are NaN where they cannot be measured, as in `score_moments`.

    Raises:
        DataError: the shapes do not match, or the labels do not.
    """
    columns = [column for name in STATISTICS for column in (name, f"{name}_mcse", f"{name}_z")]
    try:
        draws = scored_draws(points, scores, labels)
        scaled = whitened(draws, correlations=False)
    except UnmeasurableError:
        dim = np.shape(points)[1]
        names = [f"x[{place}]" for place in range(dim)] if labels is None else list(labels)
        return pd.DataFrame(math.nan, index=pd.Index(names, name="parameter"), columns=pd.Index(columns))
    average = scaled.scores.mean(axis=0)
    # the guide's mean is estimated too, so that the score is centred in the second terms
    terms = (scaled.scores, (scaled.scores - average) * scaled.coordinates + 1.0)
    figures = {}
    for name, term in zip(STATISTICS, terms, strict=True):
        value, error = term.mean(axis=0), term.std(axis=0, ddof=1) / math.sqrt(len(term))
        with np.errstate(divide="ignore", invalid="ignore"):
            figures |= {name: value, f"{name}_mcse": error, f"{name}_z": value / error}
    return pd.DataFrame(figures, index=pd.Index(draws.labels, name="parameter"))


def shape_statistics(coordinates: Float64Array, residuals: Float64Array, root: Float64Array) -> Shape:
    """Stein's identities for two bounded functions of each coordinate, one even and one odd, beyond location and scale.

    E_p[s_i f(u_j)] + [i = j] E_p[f'(u_j)] = 0 for every bounded smooth f; here f is the Hermite polynomial u^2 - 1 or
    u^3 - 3 u times exp(-u^2 / 4), over its norm under a normal guide. A normal guide at the optimum of its ELBO meets
    the identities for f = 1 and f = u whatever the posterior; it meets these only as far as the posterior is normal.
    The polynomials alone would do as well, but for their heavy tails.

    In the score s = a - L u + r the linear part is replaced by -u, which it is where q = p. An error of the guide's
    mean or sd, which other figures measure, so does not show: for a normal posterior and any normal guide all is zero.

    Args:
        coordinates: draws u of zero mean and unit covariance, shape (draw, dim).
        residuals: r, what a linear regression of the score on u leaves over, shape (draw, dim).
        root: parameter i is the sum over j of root[i, j] u_j, shape (dim, dim); the squares of a row add up to one.
    """
    scores, squares = residuals - coordinates, coordinates**2
    envelope = np.exp(-0.25 * squares)
    even = _largest(
        scores,
        (squares - 1.0) * envelope / NORMS[0],
        0.5 * coordinates * (5.0 - squares) * envelope / NORMS[0],
    )
    odd = _largest(
        scores,
        coordinates * (squares - 3.0) * envelope / NORMS[1],
        0.5 * (squares * (9.0 - squares) - 6.0) * envelope / NORMS[1],
    )
    values, errors = np.maximum(even, odd)
    return Shape(np.sqrt(root**2 @ values**2), np.sqrt(root**2 @ errors**2))


def _largest(scores: Float64Array, function: Float64Array, slope: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Largest identity in which each coordinate takes part, by its score or in the function, and largest error."""
    own = scores * function + slope
    mean = scores.T @ function / len(own)
    variance = (scores**2).T @ function**2 / len(own) - mean**2
    np.fill_diagonal(mean, own.mean(axis=0))
    np.fill_diagonal(variance, own.var(axis=0))
    size, error = np.abs(mean), np.sqrt(np.maximum(variance, 0.0) / len(own))
    return np.maximum(size.max(axis=0), size.max(axis=1)), np.maximum(error.max(axis=0), error.max(axis=1))
