"""Predictive calibration by features: each left-out feature of a datum where the rest of the datum would put it."""

import math
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ppl_models.checks import Check
from ppl_models.diagnostics.khat import MIN_DRAWS
from ppl_models.diagnostics.loo_pit import PIT_LIMIT, check_loo_pit, loo_pit
from ppl_models.diagnostics.pareto_columns import psis_columns
from ppl_models.diagnostics.sample_size import khat_limit
from ppl_models.errors import DataError

NAME = "predictive calibration"
MOST_BEYOND = 0.05
"""Share of the data whose weights may be beyond the limit of k-hat: more, and nothing passes."""
SCOPE, SCOPE_ALONE = "one feature of each datum, predicted from its others", "the only feature, predicted by the prior"
LEVEL = 0.9

Float64Array = NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class FeaturePIT:
    """Where left-out features lie in their predictive distributions.

    Attributes:
        pit: in (0, 1), uniform if the model is right, shape (row,).
        khat: of the weights that leave the feature out, shape (row,).
        num_draws: behind each.
        seed: of the test.
        alone: whether the features are the only ones, so that their predictive distribution is the prior's.
    """

    pit: Float64Array = field(repr=False)
    khat: Float64Array = field(repr=False)
    num_draws: int
    seed: int = 0
    alone: bool = False

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Whether the weights of each row can be relied on."""
        return self.khat <= khat_limit(self.num_draws)

    @property
    def coverage(self) -> float:
        """Share of the usable rows inside the central 90 % predictive interval."""
        inside = np.abs(self.pit[self.usable] - 0.5) <= LEVEL / 2.0
        return float(inside.mean()) if inside.size else math.nan

    @property
    def check(self) -> Check:
        """Whether the values are uniform.

        Heavy weights are those of data in the tails of their predictions: to leave such data out would select the
        middle, and fail the truth. It fails only where it would wherever these were, and passes only with few of them.
        """
        heavy = int((~self.usable).sum())
        found = check_loo_pit(self.pit, seed=self.seed, num_unknown=heavy)
        if heavy > MOST_BEYOND * len(self.pit) and found.passed is not False:
            detail = f"not resolved: the weights of {heavy} of {len(self.pit)} data are too heavy"
            return Check(NAME, math.nan, PIT_LIMIT, None, "a q(z | x) that is nearer to the posterior", detail=detail)
        covered = f"90 % intervals hold {100.0 * self.coverage:.1f} %"
        left = f"; {heavy} data with heavy weights, which may be anywhere" if heavy else ""
        parts = (SCOPE_ALONE if self.alone else SCOPE, covered + left, found.detail)
        return replace(found, name=NAME, detail="; ".join(part for part in parts if part))

    def with_better(self, places: NDArray[np.intp], other: "FeaturePIT") -> "FeaturePIT":
        """Values of some rows from other draws where the weights of those are lighter.

        Args:
            places: of the rows.
            other: at these rows, and perhaps more after them.
        """
        pit, khat = self.pit.copy(), self.khat.copy()
        better = other.khat[: len(places)] < khat[places]
        pit[places[better]] = other.pit[: len(places)][better]
        khat[places[better]] = other.khat[: len(places)][better]
        return replace(self, pit=pit, khat=khat)

    def __repr__(self) -> str:
        return f"FeaturePIT: {len(self.pit):,} rows\n{self.check}"


def feature_pit(
    observed: ArrayLike,
    replicated: ArrayLike,
    log_likelihood: ArrayLike,
    log_weight: ArrayLike,
    *,
    seed: int = 0,
    alone: bool = False,
) -> FeaturePIT:
    """Probability integral transform of one feature of each datum, given the datum's other features.

    A reconstruction has seen the feature it reconstructs, so that its intervals cannot be judged by it. Draws of
    q(z | x) weighted by p(x, z) / q(z | x) / p(x_d | z) are draws of p(z | x without d) instead, as in leave-one-out
    cross-validation; the feature must be independent of the others given z. With one feature, chosen at random, of each
    of independent data, the transforms are independent and uniform if the model is right, whatever q is.

    Draws of the prior will do as well, with weights p(x, z) / p(z) = p(x | z).

    Args:
        observed: the feature of each datum, shape (row,).
        replicated: draws of it from p(x_d | z) at the draws of q(z | x), shape (draw, row).
        log_likelihood: log p(x_d | z) at the same draws in nats, shape (draw, row); at least 100 draws.
        log_weight: log p(x, z) - log q(z | x) at the same draws, shape (draw, row).
        seed: discrete features are spread evenly over their step.
        alone: whether the data have no other features.

    Raises:
        DataError: the shapes do not agree, or fewer than 100 draws.

    Czado, Gneiting and Held (2009), Predictive model assessment for count data, Biometrics 65(4); Vehtari, Gelman and
    Gabry (2017), Practical Bayesian model evaluation using leave-one-out cross-validation, Statistics and Computing 27.
    """
    weights, likelihood = np.asarray(log_weight, dtype=float), np.asarray(log_likelihood, dtype=float)
    if weights.ndim != 2 or likelihood.shape != weights.shape or len(weights) < MIN_DRAWS:
        raise DataError(
            f"log_weight: shape {weights.shape}, log_likelihood {likelihood.shape}; both need (draw, row), at least "
            f"{MIN_DRAWS} draws."
        )
    with np.errstate(invalid="ignore"):
        ratios = np.where(np.isneginf(weights), -np.inf, weights - likelihood)
    smoothed, khat = psis_columns(ratios)
    bad = ~np.isfinite(khat) & np.isnan(smoothed).any(axis=0)
    values = loo_pit(observed, replicated, np.where(bad, -math.log(len(weights)), smoothed), seed=seed)
    return FeaturePIT(values, np.where(bad, np.inf, khat), len(weights), seed, alone)
