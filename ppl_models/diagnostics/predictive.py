"""Posterior predictive checks: can the fitted model produce data like those observed?"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ppl_models.checks import Check
from ppl_models.errors import DataError

Float64Array = NDArray[np.float64]

MIN_DRAWS = 100
TAIL_LIMIT = 0.01
"""Two-sided: the observed statistic lies outside of the central 99 % of the replicated ones."""
RESOLUTION = 2.0
"""Standard errors that a tail probability must be away from its limit."""


def tail_probability(observed: float, replicated: ArrayLike) -> tuple[float, float]:
    """How far out in the replicated statistics the observed one lies, both sides taken together.

    Args:
        observed: the statistic of the data.
        replicated: the same of replicated data, shape (draw,).

    Returns:
        2 min(p, 1 - p) with p = P(replicated < observed) + P(replicated = observed) / 2, so that ties count half on
        either side, and its Monte Carlo standard error. The draws are joined by one that counts half below, so that no
        probability is zero.

    Raises:
        DataError: no draws, or another shape.

    Gelman, Meng and Stern (1996), Posterior predictive assessment of model fitness, Statistica Sinica 6.
    """
    values = np.asarray(replicated, dtype=float)
    if values.ndim != 1 or not values.size:
        raise DataError(f"replicated: shape {values.shape}, needs (draw,), with one draw at least.")
    below = float((values < observed).sum()) + 0.5 * float((values == observed).sum())
    share = (below + 0.5) / (values.size + 1.0)
    ties = float((values == observed).mean())
    variance = max(share * (1.0 - share) - 0.25 * ties, 0.25 * ties * (1.0 - ties))  # of 0, a half at ties, and 1
    return 2.0 * min(share, 1.0 - share), 2.0 * math.sqrt(variance / (values.size + 2.0))


def check_predictive(name: str, observed: float, replicated: ArrayLike) -> Check:
    """Judge one statistic of the data by those of data that the fitted model produces.

    The parameters have seen the data, so that the tail probability of a true model is nearer to one than a uniform
    number: fewer than 1 in 100 true models fail.

    Args:
        name: the statistic and the site: "sd of 'y'".
        observed: the statistic of the data.
        replicated: the same of data replicated from draws of the posterior, shape (draw,); at least 100 draws.

    Returns:
        The check; its value is the two-sided tail probability. Not measured with fewer than 100 draws, with values that
        are not finite, or where every replicate has the observed value, which says nothing. Not resolved within two
        Monte Carlo errors of the limit.

    Raises:
        DataError: the replicates are not one-dimensional.

    Meng (1994), Posterior predictive p-values, Annals of Statistics 22(3).
    """
    values = np.asarray(replicated, dtype=float)
    if values.ndim != 1:
        raise DataError(f"replicated: shape {values.shape}, needs (draw,). Stack the chains first.")
    title = f"predictive {name}"
    if obstacle := _obstacle(observed, values):
        return Check(title, math.nan, TAIL_LIMIT, None, "", detail=f"not measured: {obstacle}")
    probability, mcse = tail_probability(observed, values)
    low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
    detail = f"observed {observed:.4g}, replicated {middle:.4g} (90 % within {low:.4g} to {high:.4g})"
    if abs(probability - TAIL_LIMIT) < RESOLUTION * mcse:
        return Check(title, probability, TAIL_LIMIT, None, "raise num_draws", mcse, detail)
    if probability > TAIL_LIMIT:
        return Check(title, probability, TAIL_LIMIT, True, "", mcse, detail)
    side = "larger" if observed > middle else "smaller"
    advice = f"a model whose data can have a {side} {name.split(' of ')[0]}"
    return Check(title, probability, TAIL_LIMIT, False, advice, mcse, detail)


def _obstacle(observed: float, values: Float64Array) -> str:
    if values.size < MIN_DRAWS:
        return f"{values.size} draws, needs at least {MIN_DRAWS}"
    if not math.isfinite(observed):
        return f"the statistic of the data is {observed}"
    bad = int((~np.isfinite(values)).sum())
    if bad:
        return f"{bad:,} of {values.size:,} replicates are NaN or infinite"
    if (values == observed).all():
        return "every replicate has the observed value"
    return ""
