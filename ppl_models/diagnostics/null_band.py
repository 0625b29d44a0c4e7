"""How far samples of one posterior differ by chance: the baseline's halves, compared as fit and baseline are."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from ppl_models.diagnostics.comparison import normalised_weights
from ppl_models.diagnostics.deviations import is_constant, uniform
from ppl_models.diagnostics.labelled import MIN_DRAWS, aligned, labelled_draws
from ppl_models.diagnostics.scores import normal_scores

MAX_FIT, MAX_BASELINE = 5_000, 5_000
"""Draws that are looked at, evenly spaced."""
MAX_PARAMETERS = 200
NUM_FOLDS = 4
NUM_SPLITS = 10
FEW_CHAINS = 4
SCREENED_LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
SMALL = 0.03
"""In sds and in log sds: errors of this root mean square, as those up to 0.05 have, are as good as none."""

Float64Array = NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """Normal scores of a fit and of its baseline over the same varying parameters, in folds of successive draws.

    Attributes:
        labels: one per parameter.
        fit: shape (fold, draw, parameter).
        weights: of the fit's draws, shape (fold, draw); each fold's sum to one.
        baseline: shape (chain, fold, draw, parameter); fewer than four chains are cut to give at
            least four.
        left_out: constants, and parameters beyond the number that is looked at.
    """

    labels: tuple[str, ...]
    fit: Float64Array
    weights: Float64Array
    baseline: Float64Array
    left_out: int

    @cached_property
    def pooled(self) -> Float64Array:
        """The baseline over all its chains, shape (fold, chain * draw, parameter)."""
        return np.moveaxis(self.baseline, 0, 1).reshape(self.baseline.shape[1], -1, self.baseline.shape[-1])

    @property
    def shrinkage(self) -> float:
        """Standard error of fit against baseline, over that of one half of the baseline against the other.

        Errors go with sqrt(1/n1 + 1/n2): sqrt(1/n + 1/b) here against sqrt(2/b + 2/b). For `b` stands the number of
        the baseline's draws, though fewer of a correlated chain are effective: that makes the error too large at most.
        """
        num_fit = 1.0 / float((self.weights**2).sum()) * len(self.weights) ** 2
        num_baseline = self.pooled.shape[0] * self.pooled.shape[1]
        return 0.5 * math.sqrt(1.0 + num_baseline / num_fit)

    def splits(self, rng: np.random.Generator, number: int = NUM_SPLITS) -> NDArray[np.bool_]:
        """Chains split in two groups, in each fold anew but for the first third, shape (split, chain, fold).

        Whole chains show whether they disagree; anew in each fold gives more splits than few chains have.
        """
        num_chains, num_folds = self.baseline.shape[:2]
        found = np.zeros((number, num_chains, num_folds), dtype=bool)
        for split in range(number):
            whole = split < max(1, number // 3)
            orders = np.stack([rng.permutation(num_chains) for _ in range(1 if whole else num_folds)], axis=1)
            found[split] = orders < num_chains // 2
        return found


def scores(
    draws: xr.Dataset, baseline: xr.Dataset, log_weights: ArrayLike | None, num_folds: int = NUM_FOLDS
) -> Scores | str:
    """Normal scores of the parameters that vary, or why there are none.

    Of more than 200 parameters those are taken whose quantiles differ most in the first quarter of all chains, and the
    other three quarters are compared, so that the choice is no part of what is measured.

    Raises:
        DataError: mismatched variables, shapes or labels; log weights of another shape.
    """
    fit, truth = labelled_draws(aligned(draws, baseline)), labelled_draws(baseline, what="baseline")
    num_draws = fit.values.shape[0] * fit.values.shape[1]
    if log_weights is not None and np.shape(log_weights) == (num_draws,):
        found = np.asarray(log_weights, dtype=float)
        if np.isnan(found).any() or np.isposinf(found).any() or np.isneginf(found).all():
            return "NaN or infinite log weights"
    weights = normalised_weights(log_weights, num_draws)
    for name, values in (("draws", fit.values), ("baseline", truth.values)):
        if values.shape[0] * values.shape[1] < MIN_DRAWS:
            return f"{values.shape[0] * values.shape[1]} draws in the {name}, needs at least {MIN_DRAWS}"
        if not np.isfinite(values).all():
            return f"NaN or infinite draws in the {name}"
    values = fit.values.reshape(num_draws, -1)
    thinned = np.unique(np.linspace(0, num_draws - 1, min(num_draws, MAX_FIT)).astype(int))
    values, weights = values[thinned], weights[thinned]
    chains = _chains(truth.values)
    used = np.flatnonzero(~is_constant(values.T) & ~is_constant(chains.reshape(-1, chains.shape[-1]).T))
    if not used.size:
        return "no parameter varies on both sides"
    if used.size > MAX_PARAMETERS:
        first, quarter = len(values) // 4, chains.shape[1] // 4
        worst = _differing(values[:first, used], weights[:first], chains[:, :quarter, used])
        used = np.sort(used[worst[:MAX_PARAMETERS]])
        values, weights, chains = values[first:], weights[first:], chains[:, quarter:]
    labels = tuple(truth.labels[place] for place in used)
    return _in_folds(labels, values[:, used], weights, chains[..., used], num_folds, len(truth.labels) - len(used))


def _chains(values: Float64Array) -> Float64Array:
    """At least four chains, thinned, shape (chain, draw, parameter)."""
    num_chains, num_draws, num_parameters = values.shape
    if num_chains < FEW_CHAINS:
        pieces = math.ceil(FEW_CHAINS / num_chains)
        num_draws //= pieces
        values = values[:, : pieces * num_draws].reshape(num_chains * pieces, num_draws, num_parameters)
    kept = min(num_draws, max(MAX_BASELINE // len(values), 2 * NUM_FOLDS))
    return values[:, np.linspace(0, num_draws - 1, kept).astype(int)]


def _differing(fit: Float64Array, weights: Float64Array, chains: Float64Array) -> NDArray[np.intp]:
    """Parameters from the one whose quantiles differ most to the one whose differ least, in sds of the baseline."""
    truth = chains.reshape(-1, chains.shape[-1])
    if weights.min() < weights.max() and weights.sum() > 0.0:
        share = np.cumsum(weights) / weights.sum()
        fit = fit[np.searchsorted(share, (np.arange(1_000) + 0.5) / 1_000.0)]
    gaps = np.abs(np.quantile(fit, SCREENED_LEVELS, axis=0) - np.quantile(truth, SCREENED_LEVELS, axis=0))
    width = np.diff(np.quantile(truth, (0.05, 0.95), axis=0), axis=0)[0]
    return np.argsort(-gaps.max(axis=0) / np.where(width > 0.0, width, np.inf), kind="stable")


def _in_folds(
    labels: tuple[str, ...],
    values: Float64Array,
    weights: Float64Array,
    chains: Float64Array,
    num_folds: int,
    left_out: int,
) -> Scores | str:
    num_fit, num_draws = (size // num_folds * num_folds for size in (len(values), chains.shape[1]))
    if min(num_fit, num_draws) == 0:
        return f"chains of {chains.shape[1]} draws"
    reference = uniform(np.ascontiguousarray(chains[:, :num_draws].reshape(-1, len(labels)).T))
    truth = normal_scores(reference.values, reference)
    fit = normal_scores(np.ascontiguousarray(values[:num_fit].T), reference)
    parts = weights[:num_fit].reshape(num_folds, -1)
    totals = parts.sum(axis=1, keepdims=True)
    if not (totals > 0.0).all() or 1.0 / float((weights**2).sum()) * weights.sum() ** 2 < MIN_DRAWS:
        return f"fewer than {MIN_DRAWS} effective draws by their weights"
    return Scores(
        labels,
        np.ascontiguousarray(fit.T).reshape(num_folds, -1, len(labels)),
        parts / totals,
        np.ascontiguousarray(truth.T).reshape(len(chains), num_folds, -1, len(labels)),
        left_out,
    )
