"""Mean and covariance of the posterior as the scores at a guide's draws say they are."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from ppl_models.diagnostics.moments import RESOLUTION
from ppl_models.diagnostics.scored_draws import ScoredDraws, UnmeasurableError, Whitened, scored_draws, whitened

COLUMNS = ("mean_error_sd", "log_sd_ratio")

Float64Array = NDArray[np.float64]


@dataclass(frozen=True)
class ScoreMoments:
    """What the scores say of a guide.

    Attributes:
        table: indexed by parameter: `mean_error_sd`, the guide's mean less the score-corrected one in score-corrected
            sd; `log_sd_ratio`, log of the guide's sd over the score-corrected one; each with its `_mcse`; and
            `residual`, from 0 where the score is linear in the parameters to 1: the share of the variance of a draw's
            Newton step that the linear score leaves unexplained.
        residual: the same for the whole score: its whitened variance that a linear score leaves unexplained. It is 0
            for a normal posterior, 0.09 for a logistic one and 0.39 for a Gumbel one, where the guide is exact.
        mean: score-corrected mean, shape (dim,), in the parameters' units.
        covariance: score-corrected covariance, shape (dim, dim).
        num_draws: draws used.
        why: why nothing was measured; empty where it was.
    """

    table: pd.DataFrame = field(repr=False)
    residual: float
    mean: Float64Array = field(repr=False)
    covariance: Float64Array = field(repr=False)
    num_draws: int
    why: str = ""


@dataclass(frozen=True)
class Line:
    """The linear score `average - precision @ u` fitted in whitened coordinates u, and what it leaves over.

    Attributes:
        average: mean score, shape (dim,).
        precision: symmetrised slope with its sign changed, shape (dim, dim).
        residuals: scores less the regression, shape (draw, dim).
    """

    average: Float64Array
    precision: Float64Array
    residuals: Float64Array


def score_moments(points: ArrayLike, scores: ArrayLike, labels: Sequence[str] | None = None) -> ScoreMoments:
    r"""Correct the mean and covariance of a guide by one linear regression of the score.

    Let s = grad log p, and m and S the mean and covariance of the guide q. Stein's identity, integration by parts,
    says that E_p[s] = 0 and E_p[s (z - E_p z)^T] = -I for every p whose density vanishes fast enough in its tails.
    Regress s on z over the draws of q: s ~ a - L (z - m) with a = E_q[s] and L = -Cov_q(s, z) S^-1, symmetrised where
    q has unit covariance. The line crosses zero at m* = m + L^-1 a; take S* = L^-1.

    - Where q = p, a = 0 and L = S^-1, so that m* = m and S* = S whatever the shape of p: no error is found.
    - Where p is normal with mean mu and covariance C, s = -C^-1 (z - mu) is linear, and the regression of a linear
      function is exact for any draws of full rank: m* = mu and S* = C without Monte Carlo error, also for a guide that
      is shifted, too narrow, truncated, or never drawn from at random.
    - Elsewhere (m*, S*) are the moments of the normal density whose score is nearest to that of p under q, and
      `residual` says how near. A normal guide of full rank at the optimum of its ELBO has E_q[s] = 0 and
      E_q[s (z - m)^T] = -I as well (Opper and Archambeau 2009), so that nothing is found there either: of a guide that
      is converged but of the wrong shape, only the residual speaks.

    Scores see a posterior only where the guide has draws: a separate mode that it misses has no effect.

    Monte Carlo errors are those of the delta method with the regression's sandwich terms. L^-1 is convex, so that noise
    in L widens S* by the relative amount (dim / draws) times the residual's share, at most 5 % of an sd with ten draws
    for each parameter; the second-order terms are estimated and taken out.

    Args:
        points: independent draws of the guide, shape (draw, dim), at least 200 and ten for each parameter.
        scores: gradient of the log density at the points, in nats per unit, shape (draw, dim). Up to 1 % may be NaN or
            infinite; these draws are left out.
        labels: names of the parameters; `x[0]`, `x[1]`, … where none are given.

    Returns:
        The moments. Where they cannot be measured every figure is NaN and `why` says so: too few draws, constant ones,
        scores that are not finite, or an L that is not positive definite (the log density is not concave on average
        over the guide's draws).

    Raises:
        DataError: the shapes do not match, or the labels do not.

    Stein (1981), Estimation of the mean of a multivariate normal distribution, Annals of Statistics 9.
    """
    try:
        draws = scored_draws(points, scores, labels)
        return _corrected(draws, whitened(draws))
    except UnmeasurableError as error:
        return _unmeasured(np.shape(points)[1], labels, str(error))


def _corrected(draws: ScoredDraws, white: Whitened) -> ScoreMoments:
    line = fitted_line(white)
    num_draws, dim = white.coordinates.shape
    inverse = np.linalg.inv(line.precision)
    inverse = 0.5 * (inverse + inverse.T)
    step = inverse @ line.average
    rows = white.root @ inverse  # parameter i in sd: rows[i] is its combination of the corrected coordinates
    variance = np.einsum("ij,ij->i", rows, white.root)
    scale = np.sqrt(variance)  # score-corrected sd over the guide's
    mean_error = -(white.root @ step) / scale

    newton = line.residuals @ rows.T  # what the linear score misses of each draw's Newton step, in the guide's sd
    moved = white.coordinates @ rows.T
    standard = white.coordinates @ white.root
    log_sd_terms = newton * moved / (2.0 * variance)
    along = white.coordinates @ step
    across = line.residuals @ step
    step_terms = newton + 0.5 * (newton * along[:, None] + moved * across[:, None])
    mean_terms = (standard - step_terms) / scale - mean_error * log_sd_terms
    freedom = 1.0 / math.sqrt(max(num_draws - dim - 1, 1))
    bias = _log_sd_bias(line, white, inverse, newton, moved) / variance / max(num_draws - dim - 1, 1)
    newton_variance = (newton**2).mean(axis=0)
    table = pd.DataFrame(
        {
            "mean_error_sd": mean_error,
            "mean_error_sd_mcse": np.sqrt((mean_terms**2).mean(axis=0)) * freedom,
            "log_sd_ratio": -0.5 * np.log(variance) + bias,
            "log_sd_ratio_mcse": (0.5 * (standard**2 - 1.0) - log_sd_terms).std(axis=0) * freedom,
            "residual": newton_variance / (newton_variance + 1.0),
        },
        index=pd.Index(draws.labels, name="parameter"),
    )
    total = float(((white.scores - line.average) ** 2).sum())
    return ScoreMoments(
        table,
        float((line.residuals**2).sum()) / total,
        white.mean + white.sd * (white.root @ step),
        np.outer(white.sd, white.sd) * (rows @ white.root),
        num_draws,
    )


def fitted_line(white: Whitened) -> Line:
    """Regress the score on the coordinates.

    Args:
        white: draws and scores in whitened coordinates.

    Raises:
        UnmeasurableError: the precision is not positive definite beyond its Monte Carlo error.
    """
    num_draws, dim = white.coordinates.shape
    average = white.scores.mean(axis=0)
    slope = white.coordinates.T @ (white.scores - average) / num_draws
    residuals = white.scores - average - white.coordinates @ slope
    precision = -0.5 * (slope + slope.T)
    values, vectors = np.linalg.eigh(precision)
    flattest = vectors[:, 0]
    terms = (residuals @ flattest) * (white.coordinates @ flattest)
    error = float(terms.std()) / math.sqrt(max(num_draws - dim - 1, 1))
    if values[0] <= RESOLUTION * error:
        raise UnmeasurableError("the log density is not concave on average over the draws")
    return Line(average, precision, residuals)


def _log_sd_bias(
    line: Line, white: Whitened, inverse: Float64Array, newton: Float64Array, moved: Float64Array
) -> Float64Array:
    """Half the second-order bias of the corrected variances, times the number of draws, shape (parameter,).

    With D the error of L, S* = L^-1 - L^-1 D L^-1 + L^-1 D L^-1 D L^-1. A draw with residual r adds
    -(r u^T + u r^T)/2 to the sum behind D, whose square gives the last term; the sample covariance by which the
    regression divides gives D itself the mean (|u|^2 - 1) r u^T.
    """
    mixed = np.einsum("ti,ij,tj->t", line.residuals, inverse, white.coordinates, optimize=True)
    of_points = np.einsum("ti,ij,tj->t", white.coordinates, inverse, white.coordinates, optimize=True)
    of_residuals = np.einsum("ti,ij,tj->t", line.residuals, inverse, line.residuals, optimize=True)
    size = (white.coordinates**2).sum(axis=1) - 1.0
    products = newton * moved
    squared = 0.25 * (2.0 * mixed @ products + of_points @ newton**2 + of_residuals @ moved**2)
    return 0.5 * (squared - size @ products) / len(size)


def _unmeasured(dim: int, labels: Sequence[str] | None, why: str) -> ScoreMoments:
    names = [f"x[{place}]" for place in range(dim)] if labels is None else list(labels)
    columns = [column for name in COLUMNS for column in (name, f"{name}_mcse")]
    table = pd.DataFrame(math.nan, index=pd.Index(names, name="parameter"), columns=pd.Index([*columns, "residual"]))
    return ScoreMoments(table, math.nan, np.full(dim, math.nan), np.full((dim, dim), math.nan), 0, why)
