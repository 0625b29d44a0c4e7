"""Wasserstein distance between a fit and a baseline along combinations of parameters."""

import math
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import cholesky, eigh, solve_triangular

from ppl_models.checks import Check
from ppl_models.diagnostics.moments import RESOLUTION
from ppl_models.diagnostics.null_band import SMALL, Scores, scores

NAME = "sliced Wasserstein"
NOTABLE = 0.25
"""In sds of the combination: what a mean off by 0.25 gives, or an sd 1.31 times too large."""
RIDGE = 0.01  # variance: a combination narrower than a tenth of its parameters' sd is as good as fixed
NUM_RANDOM, NUM_AXES, NUM_PAIRS, NUM_ENDS = 16, 4, 4, 3
SPREAD = 0.5
"""Least error of a distance that is 1 by chance: what moves is mostly the mean, so that each half's distance is |N(0,
s^2)| with an sd of 0.76 times its mean, and that of the two averaged 0.53. Splits of the same draws show less.
"""
LEVELS = (np.arange(100) + 0.5) / 100.0
ADVICE = "use a guide that keeps correlations (full_rank) or bends (iaf)"

Float64Array = NDArray[np.float64]


@dataclass(frozen=True)
class Halves:
    """Draws in two halves, `values` of shape (half, draw, parameter); `weights` (half, draw) or None for equal ones."""

    values: Float64Array
    weights: Float64Array | None = None

    def moments(self, half: int) -> tuple[Float64Array, Float64Array]:
        """Mean and covariance."""
        values = self.values[half]
        weights = np.full(len(values), 1.0 / len(values)) if self.weights is None else self.weights[half]
        mean = weights @ values
        centred = values - mean
        return mean, (centred * weights[:, None]).T @ centred

    def quantiles(self, half: int, directions: Float64Array) -> Float64Array:
        """Of the draws along each direction, shape (level, direction)."""
        along = self.values[half] @ directions.T
        if self.weights is None:
            along.sort(axis=0)
            return along[(LEVELS * len(along)).astype(int)]
        order = np.argsort(along, axis=0)
        share = np.cumsum(self.weights[half][order], axis=0)
        columns = [
            values[np.minimum(np.searchsorted(total, LEVELS), len(values) - 1)]
            for values, total in zip(np.take_along_axis(along, order, axis=0).T, share.T, strict=True)
        ]
        return np.stack(columns, axis=1)


@dataclass(frozen=True)
class Sliced:
    """Distances in sds of the baseline's combination: the largest, that along random ones, and the largest's vector."""

    largest: float
    typical: float
    vector: Float64Array


def sliced_limit(num_parameters: int) -> float:
    """Distance that matters, in sds: 0.25, and the mean along a combination of parameters that are as good as right.

    Args:
        num_parameters: k; means that are off by 0.03 sd in every one of k independent parameters are off by
            0.03 sqrt(k) sd along the combination of them all.
    """
    return math.sqrt(NOTABLE**2 + num_parameters * SMALL**2)


def check_sliced(
    draws: xr.Dataset, baseline: xr.Dataset, *, log_weights: ArrayLike | None = None, seed: int = 0
) -> Check:
    """Max-sliced Wasserstein distance of a fit from a baseline.

    In normal scores by the baseline's distribution function the two are projected on combinations of parameters:
    random ones in the baseline's whitened coordinates, those of the largest and smallest ratios of variances, those of
    the difference of the means, and the single parameters and pairs that differ most. The one with the largest 1-D
    Wasserstein distance in one half of every chain is measured in the other half, and the two halves change places.

    The null band is the same distance between two halves of the baseline's chains, split ten times and scaled to the
    number of draws of fit and baseline.

    Args:
        draws: independent draws of the fit, dims (chain, draw, event...); at least 100.
        baseline: MCMC draws of the same variables.
        log_weights: log importance weights of the fit's draws, shape (draw,), which judge the corrected fit.
        seed: of directions and splits.

    Returns:
        The check `sliced Wasserstein`, whose value is the distance beyond that of exact samples, in sds of the
        baseline along the combination. It fails beyond `sliced_limit` and three standard errors by the null band, and
        is not resolved where only one is exceeded or the three errors alone exceed the limit.

    Raises:
        DataError: mismatched variables, shapes or labels; weights of another shape.

    Bonneel, Rabin, Peyre and Pfister (2015), Sliced and Radon Wasserstein barycenters of measures, Journal of
    Mathematical Imaging and Vision 51; Deshpande et al. (2019), Max-sliced Wasserstein distance, CVPR.
    """
    found = scores(draws, baseline, log_weights, num_folds=2)
    if isinstance(found, str):
        return Check(NAME, math.nan, sliced_limit(1), None, "", detail=f"not measured: {found}")
    rng = np.random.default_rng(seed)
    random = rng.normal(size=(NUM_RANDOM, len(found.labels)))
    equal = bool(np.ptp(found.weights) == 0.0)
    fit = Halves(found.fit, None if equal else found.weights)
    result = _sliced(fit, Halves(found.pooled), random)
    nulls = [_sliced(_group(found, split), _group(found, ~split), random) for split in found.splits(rng)]
    largest = found.shrinkage * np.array([null.largest for null in nulls])
    typical = found.shrinkage * float(np.mean([null.typical for null in nulls]))
    expected = float(largest.mean())
    error = max(float(largest.std(ddof=1)), SPREAD * expected)
    value = result.largest - expected
    detail = (
        f"{_subject(result.vector, found.labels)}, beyond the {expected:.2f} sd of the baseline's own halves; "
        f"{max(result.typical - typical, 0.0):.2f} sd along random combinations"
    )
    return _judged(value, error, sliced_limit(len(found.labels)), detail)


def _judged(value: float, error: float, limit: float, detail: str) -> Check:
    chance = RESOLUTION * error
    passed = False if value > max(limit, chance) else None if max(value, chance) > limit else True
    return Check(NAME, value, limit, passed, {True: "", False: ADVICE, None: "more draws"}[passed], error, detail)


def _group(found: Scores, split: NDArray[np.bool_]) -> Halves:
    """The chains that `split`, shape (chain, half), takes in each half."""
    parts = [found.baseline[split[:, half], half] for half in range(2)]
    return Halves(np.stack([part.reshape(-1, part.shape[-1]) for part in parts]))


def _sliced(fit: Halves, truth: Halves, random: Float64Array) -> Sliced:
    """Each half chooses a direction for the other."""
    largest, typical, vectors = [], [], []
    for half in range(2):
        directions = _directions(fit.moments(half), truth.moments(half), random)
        distance = _distances(fit, truth, half, directions)
        best = directions[[int(distance.argmax())]]
        vectors.append(best[0])
        typical.append(float(distance[: len(random)].mean()))
        largest.append(float(_distances(fit, truth, 1 - half, best)[0]))
    return Sliced(float(np.mean(largest)), float(np.mean(typical)), vectors[int(np.argmax(largest))])


def _distances(fit: Halves, truth: Halves, half: int, directions: Float64Array) -> Float64Array:
    """1-D Wasserstein distances, in sds of the baseline along each direction."""
    gaps = np.abs(fit.quantiles(half, directions) - truth.quantiles(half, directions)).mean(axis=0)
    covariance = truth.moments(half)[1]
    variance = np.einsum("di,ij,dj->d", directions, covariance, directions, optimize=True)
    return gaps / np.sqrt(variance + RIDGE)


def _directions(
    fit: tuple[Float64Array, Float64Array], truth: tuple[Float64Array, Float64Array], random: Float64Array
) -> Float64Array:
    """Unit combinations, the random ones first, shape (direction, parameter)."""
    number = len(fit[0])
    ridge = RIDGE * np.eye(number)
    factor = cholesky(truth[1] + ridge, lower=True)
    difference = fit[0] - truth[0]
    whitened = solve_triangular(factor, difference, lower=True)
    _, vectors = eigh(fit[1] + ridge, truth[1] + ridge)
    ends = np.unique(np.r_[np.arange(number)[:NUM_ENDS], np.arange(number)[-NUM_ENDS:]])
    candidates = [
        solve_triangular(factor, random.T, lower=True, trans=1).T,
        solve_triangular(factor, whitened, lower=True, trans=1)[None],
        difference[None],
        vectors[:, ends].T,
        np.eye(number)[np.argsort(-(np.abs(difference) + np.abs(np.diag(fit[1] - truth[1]))))[:NUM_AXES]],
        _pairs(fit[1], truth[1]),
    ]
    found = np.concatenate(candidates)
    return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)


def _pairs(fit: Float64Array, truth: Float64Array) -> Float64Array:
    """Sums and differences of the pairs whose covariances differ most."""
    number = len(fit)
    gaps = np.triu(np.abs(fit - truth), k=1).ravel()
    largest = np.argsort(-gaps)[: min(NUM_PAIRS, number * (number - 1) // 2)]
    rows, columns = np.unravel_index(largest, fit.shape)
    identity = np.eye(number)
    return np.concatenate([identity[rows] + identity[columns], identity[rows] - identity[columns]])


def _subject(vector: Float64Array, labels: tuple[str, ...]) -> str:
    order = np.argsort(-np.abs(vector))
    named = [labels[place] for place in order[:2] if abs(vector[place]) >= abs(vector[order[0]]) / 3]
    return f"`{named[0]}`" if len(named) == 1 else f"a combination of `{named[0]}` and `{named[1]}`"
