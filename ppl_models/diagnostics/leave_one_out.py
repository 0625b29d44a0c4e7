"""Leave-one-out cross-validation by Pareto smoothed importance sampling, from exact or approximate draws."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from ppl_models.checks import Check
from ppl_models.diagnostics.by_datum import check_largest_khat
from ppl_models.diagnostics.khat import MIN_DRAWS
from ppl_models.diagnostics.pareto_columns import psis_columns
from ppl_models.diagnostics.sample_size import khat_limit
from ppl_models.errors import DataError

Float64Array = NDArray[np.float64]

LOO_KHAT = "LOO k-hat"
LOO_ADVICE = (
    "refit without these observations, or integrate their own latents out by hand; a model that they surprise may be "
    "misspecified"
)


@dataclass(frozen=True)
class Pointwise:
    """What leaving out each observation gives.

    Attributes:
        elpd: log predictive density of each observation given the others, in nats, shape (observation,).
        p_loo: how much its own log density falls by leaving it out: effective parameters, shape (observation,).
        khat: of the weights that leave it out, shape (observation,).
        guide_khat: of the draws' own weights, log p - log q; 0 for draws of the posterior itself.
        log_weights: these weights, their exponentials sum to one over the draws, shape (draw, observation).
        relative_efficiency: effective draws of each draw.
    """

    elpd: Float64Array
    p_loo: Float64Array
    khat: Float64Array
    guide_khat: float
    log_weights: Float64Array
    relative_efficiency: float
    _influence: Float64Array

    @property
    def standard_error(self) -> float:
        """Of the sum of `elpd` as an estimate for new data of the same size: sqrt(N) times the sd over observations."""
        return math.sqrt(len(self.elpd)) * float(self.elpd.std(ddof=1)) if len(self.elpd) > 1 else math.nan

    @property
    def mcse(self) -> float:
        """Monte Carlo standard error of the sum of `elpd`, in nats; holds where every k-hat is within its limit."""
        return float(np.sqrt((self._influence**2).sum() / self.relative_efficiency))


def leave_one_out(
    log_likelihood: ArrayLike, log_ratio: ArrayLike | None = None, *, relative_efficiency: float = 1.0
) -> Pointwise:
    """Leave out each observation in turn.

    The weights of draws from q are p(θ | y) / q(θ) / p(y_i | θ), smoothed in one piece; p_loo compares with draws
    weighted by p(θ | y) / q(θ), smoothed as well.

    Args:
        log_likelihood: log p(y_i | θ) in nats, shape (draw, observation); at least 100 draws.
        log_ratio: log p - log q in nats of the draws of an approximate posterior, shape (draw,); None for draws of the
            posterior itself.
        relative_efficiency: effective draws of each draw; below 1 for Markov chains.

    Returns:
        Pointwise figures; NaN for observations whose weights are not finite.

    Raises:
        DataError: wrong shapes, or fewer than 100 draws.

    Vehtari, Gelman and Gabry (2017), Statistics and Computing 27(5); Magnusson, Andersen, Jonasson and Vehtari (2019),
    Bayesian leave-one-out cross-validation for large data, ICML.
    """
    densities = np.asarray(log_likelihood, dtype=float)
    if densities.ndim != 2:
        raise DataError(f"log_likelihood: shape {densities.shape}, needs (draw, observation). Stack the chains first.")
    base = np.zeros(len(densities)) if log_ratio is None else np.asarray(log_ratio, dtype=float)
    if base.shape != densities.shape[:1]:
        raise DataError(f"log_ratio: shape {base.shape}, needs {densities.shape[:1]}, one for each draw.")
    # an observation of density zero under a draw that has no weight either leaves no weight: -inf, and not NaN
    zero = np.isneginf(base)
    with np.errstate(invalid="ignore"):
        weights, khat = psis_columns(
            np.where(zero[:, None], -np.inf, base[:, None] - densities), relative_efficiency=relative_efficiency
        )
    posterior, own = psis_columns(base[:, None], relative_efficiency=relative_efficiency)
    with np.errstate(invalid="ignore"):
        terms = np.where(zero[:, None], -np.inf, weights + densities)
        elpd = np.asarray(logsumexp(terms, axis=0))
        everything = np.asarray(logsumexp(np.where(zero[:, None], -np.inf, posterior + densities), axis=0))
        influence = (np.exp(terms - elpd) - np.exp(weights)).sum(axis=1)
    return Pointwise(elpd, everything - elpd, khat, float(own[0]), weights, relative_efficiency, influence)


def check_loo_khat(
    khat: ArrayLike,
    labels: Sequence[str],
    num_draws: int,
    *,
    guide_khat: float = 0.0,
    relative_efficiency: float = 1.0,
) -> Check:
    """Judge the weights that leave out each observation.

    Args:
        khat: of each observation, shape (observation,).
        labels: names of the observations.
        num_draws: behind each k-hat; at least 100.
        guide_khat: of the weights that leave nothing out; where it is beyond the limit the guide is at fault.
        relative_efficiency: effective draws of each draw.

    Returns:
        The check `LOO k-hat`, as `check_largest_khat` gives it: the largest, how many are beyond the limit, and which.

    Raises:
        DataError: another number of labels than of observations.
    """
    values = np.asarray(khat, dtype=float)
    if values.shape != (len(labels),):
        raise DataError(f"khat: shape {values.shape}, needs {(len(labels),)}, one for each label.")
    limit = khat_limit(max(num_draws, MIN_DRAWS))
    if num_draws < MIN_DRAWS:
        detail = f"not measured: {num_draws} draws, needs at least {MIN_DRAWS}"
        return Check(LOO_KHAT, math.nan, limit, None, "draw more", detail=detail)
    advice = LOO_ADVICE
    if guide_khat > limit:
        advice = f"a richer guide, or draws by MCMC: with no observation left out k-hat is {guide_khat:.2f} already"
    return check_largest_khat(LOO_KHAT, values, labels, num_draws, advice, relative_efficiency=relative_efficiency)
