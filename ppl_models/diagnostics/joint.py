"""Whether a fit has the dependence between parameters right, beyond its marginals."""

import math
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import eigh
from scipy.stats import norm

from ppl_models.checks import Check
from ppl_models.diagnostics.comparison import by_parameter, chain_variance, effective_size, normalised_weights
from ppl_models.diagnostics.deviations import Sample, is_constant
from ppl_models.diagnostics.khat import psis_weights
from ppl_models.diagnostics.labelled import LabelledDraws, aligned, finite_draws
from ppl_models.diagnostics.moments import REFERENCES, RESOLUTION
from ppl_models.diagnostics.scores import normal_scores

# A correlation r that the guide drops makes the difference of two parameters 1 / sqrt(1 - r) times too wide: beyond
# 1.5 from r = 0.56 on. A marginal sd alone must be right within 1.2.
JOINT_LIMIT = math.log(1.5)
RIDGE = 1e-3  # variance: a combination narrower than 0.03 of its parameters' sd is as good as fixed
FLOOR = 0.01
MAX_SCREENED = 1_000  # parameters whose correlations are compared
MAX_WHITENED = 200  # of these, those with the worst correlations
DRAWS_PER_PARAMETER = 10.0  # effective draws needed for each whitened parameter
NUM_DIRECTIONS = 3  # tried at either end of the spectrum
ADVICE = "use a guide that keeps correlations (full_rank)"

Float64Array = NDArray[np.float64]


@dataclass(frozen=True)
class Pair:
    """Scores of a fit and of its reference over the same parameters.

    `num_chains` are those of the reference, 0 where its draws are independent; `shared` says that both are the same
    draws, weighted or not.
    """

    fit: Sample
    reference: Sample
    num_chains: int
    shared: bool


@dataclass(frozen=True)
class Directions:
    """Unit combinations, shape (direction, parameter), of the parameters at the positions `chosen`."""

    vectors: Float64Array
    chosen: NDArray[np.intp]


def check_joint(draws: xr.Dataset, baseline: xr.Dataset, *, log_weights: ArrayLike | None = None) -> Check | None:
    """Compare the spread of combinations of parameters with that in a baseline.

    The normal scores of one half of the draws are whitened by the reference's covariance, and the combinations found
    in which the fit is widest and narrowest (the extreme eigenvalues of its covariance there). Each is then measured in
    the other half, which did not choose it: the ratio needs no correction for having been the worst of many, and its
    Monte Carlo error is that of any ratio of two sds. A ridge of 0.03 sd takes out what repeats another
    parameter, as deterministics do.

    Args:
        draws: independent draws of the fit, dims (chain, draw, event...); at least 100.
        baseline: MCMC draws of the same variables.
        log_weights: log importance weights of the fit's draws, shape (draw,), which judge the corrected fit.

    Returns:
        The check `joint`, whose value is |log sd ratio| of the worst combination, fit over reference; None where fewer
        than two parameters vary. Of more than 1,000 parameters 1,000 are looked at, evenly spaced; the 200 with the
        worst correlations are whitened together, fewer where there are not ten effective draws for each.

    Raises:
        DataError: as `compare`.
    """
    fit = finite_draws(aligned(draws, baseline), what="draws")
    truth = finite_draws(baseline, what="baseline")
    weights = normalised_weights(log_weights, fit.values.shape[0] * fit.values.shape[1])
    equal = np.full(truth.values[..., 0].size, 1.0 / truth.values[..., 0].size)
    return _check(fit, weights, truth, equal, "baseline", num_chains=truth.values.shape[0])


def check_joint_with_psis(draws: xr.Dataset, log_ratio: ArrayLike) -> Check | None:
    """`check_joint` of a fit against its own importance-weighted draws; it means nothing where k-hat is too large.

    Args:
        draws: independent draws of the fit, dims (chain, draw, event...); at least 100.
        log_ratio: log p - log q in nats of the same draws, shape (draw,) over the stacked chains.

    Returns:
        As `check_joint`.

    Raises:
        DataError: as `compare_with_psis`.
    """
    fit = finite_draws(draws, what="draws")
    num_draws = fit.values.shape[0] * fit.values.shape[1]
    weights = normalised_weights(psis_weights(log_ratio)[0], num_draws)
    return _check(fit, np.full(num_draws, 1.0 / num_draws), fit, weights, "psis", shared=True)


def check_joint_with_pool(
    draws: xr.Dataset, values: Float64Array, pool_log_weights: ArrayLike, *, log_weights: ArrayLike | None = None
) -> Check | None:
    """`check_joint` of a fit against weighted draws of a pool of proposals.

    Args:
        draws: independent draws of the fit, dims (chain, draw, event...); at least 100.
        values: the pool's draws of the same scalar parameters in the same order, shape (draw, parameter).
        pool_log_weights: of the pool's draws, shape (draw,).
        log_weights: log importance weights of the fit's draws, shape (draw,), which judge the corrected fit.

    Returns:
        As `check_joint`.

    Raises:
        DataError: as `compare_with_pool`.
    """
    fit = finite_draws(draws, what="draws")
    num_draws = fit.values.shape[0] * fit.values.shape[1]
    truth = LabelledDraws(fit.labels, values[None])
    weights = normalised_weights(pool_log_weights, len(values))
    return _check(fit, normalised_weights(log_weights, num_draws), truth, weights, "pool")


def unmeasured_joint(why: str) -> Check:
    """The check `joint` where nothing can be compared."""
    return Check("joint", math.nan, JOINT_LIMIT, None, "", detail=f"not measured: {why}")


def _check(
    fit: LabelledDraws,
    weights: Float64Array,
    truth: LabelledDraws,
    truth_weights: Float64Array,
    reference: str,
    *,
    num_chains: int = 0,
    shared: bool = False,
) -> Check | None:
    used = np.flatnonzero(~_constant(fit.values) & ~_constant(truth.values))
    if used.size < 2:
        return None
    if used.size > MAX_SCREENED:
        used = used[np.linspace(0, used.size - 1, MAX_SCREENED).astype(int)]
    whole = Sample(by_parameter(truth.values[..., used]), truth_weights)
    truth_scores = normal_scores(whole.values, whole)
    fit_scores = truth_scores if shared else normal_scores(by_parameter(fit.values[..., used]), whole)
    found, held_out = (
        Pair(
            _half(fit_scores, weights, fit.values.shape[:2], half),
            _half(truth_scores, truth_weights, truth.values.shape[:2], half),
            num_chains,
            shared,
        )
        for half in (0, 1)
    )
    directions = _extreme_directions(found)
    ratios, errors = _log_sd_ratios(held_out, directions)
    return _judged(ratios, errors, directions, [fit.labels[place] for place in used], reference)


def _extreme_directions(pair: Pair) -> Directions:
    """Combinations in which the sd of the fit is largest and smallest beside that of the reference."""
    fit, reference = _covariance(pair.fit), _covariance(pair.reference)
    gap = np.abs(_correlation(fit) - _correlation(reference))
    np.fill_diagonal(gap, 0.0)
    size = min(1.0 / float((sample.weights**2).sum()) for sample in (pair.fit, pair.reference))
    if pair.num_chains:
        size = min(size, float(effective_size(pair.reference.values, pair.num_chains).min()))
    count = int(min(max(size / DRAWS_PER_PARAMETER, 2), MAX_WHITENED, len(gap)))
    chosen = np.argsort(-gap.max(axis=1), kind="stable")[:count]
    ridge = RIDGE * np.eye(count)
    among = np.ix_(chosen, chosen)
    _, vectors = eigh(fit[among] + ridge, reference[among] + ridge)
    ends = np.unique(np.r_[np.arange(count)[:NUM_DIRECTIONS], np.arange(count)[-NUM_DIRECTIONS:]])
    unit = vectors[:, ends] / np.linalg.norm(vectors[:, ends], axis=0)
    return Directions(unit.T, chosen)


def _log_sd_ratios(pair: Pair, directions: Directions) -> tuple[Float64Array, Float64Array]:
    """Log sd ratio along each direction and its Monte Carlo error (delta method), shape (direction,)."""
    log_sd, terms = zip(
        *(_log_sd(sample, directions) for sample in (pair.fit, pair.reference)),
        strict=True,
    )
    if pair.shared:
        variance = ((terms[0] - terms[1]) ** 2).sum(axis=-1)
    else:
        own = chain_variance(terms[1], pair.num_chains) if pair.num_chains else (terms[1] ** 2).sum(axis=-1)
        variance = (terms[0] ** 2).sum(axis=-1) + own
    return log_sd[0] - log_sd[1], np.sqrt(variance)


def _log_sd(sample: Sample, directions: Directions) -> tuple[Float64Array, Float64Array]:
    projected = directions.vectors @ sample.values[directions.chosen]
    squares = (projected - (projected @ sample.weights)[:, None]) ** 2
    variance = squares @ sample.weights
    terms = sample.weights * (squares - variance[:, None]) / (2.0 * (variance + RIDGE))[:, None]
    return 0.5 * np.log(variance + RIDGE), terms


def _judged(
    ratios: Float64Array, errors: Float64Array, directions: Directions, labels: list[str], reference: str
) -> Check:
    size = np.abs(ratios)
    chance = float(norm.isf(norm.sf(RESOLUTION) / len(ratios)))
    failed = (size > JOINT_LIMIT) & (size > chance * errors)
    unresolved = ~failed & ((size > JOINT_LIMIT) | (errors * RESOLUTION > JOINT_LIMIT))
    passed = False if failed.any() else None if unresolved.any() else True
    among = failed if failed.any() else unresolved if unresolved.any() else np.ones(len(ratios), dtype=bool)
    worst = int(np.where(among, size, -np.inf).argmax())
    advice = {True: "", False: ADVICE, None: "more draws"}[passed]
    subject = _subject(directions.vectors[worst], [labels[place] for place in directions.chosen])
    factor = math.exp(size[worst])
    width = f"{factor:.{1 if factor >= 1.1 else 2}f} times too {'wide' if ratios[worst] > 0 else 'narrow'}"
    detail = f"{subject} {width} against {REFERENCES[reference]}"
    return Check("joint", float(size[worst]), JOINT_LIMIT, passed, advice, float(errors[worst]), detail)


def _subject(vector: Float64Array, labels: list[str]) -> str:
    """The parameters that weigh most in a combination."""
    first, second = np.argsort(-np.abs(vector))[:2]
    if abs(vector[second]) < abs(vector[first]) / 3:
        return f"a combination that is mostly `{labels[first]}` is"
    return f"`{labels[first]}` and `{labels[second]}`: their combination is"


def _half(scores: Float64Array, weights: Float64Array, shape: tuple[int, ...], half: int) -> Sample:
    """The earlier or later half of every chain: neighbours in a chain are no independent test."""
    middle = shape[1] // 2
    part = slice(None, middle) if half == 0 else slice(middle, None)
    chosen = weights.reshape(shape)[:, part].reshape(-1)
    values = scores.reshape(len(scores), *shape)[..., part].reshape(len(scores), -1)
    return Sample(values, chosen / chosen.sum())


def _covariance(sample: Sample) -> Float64Array:
    centred = sample.values - (sample.values @ sample.weights)[:, None]
    return (centred * sample.weights) @ centred.T


def _correlation(covariance: Float64Array) -> Float64Array:
    sd = np.sqrt(np.diag(covariance))
    return covariance / np.maximum(np.outer(sd, sd), FLOOR)


def _constant(values: Float64Array) -> NDArray[np.bool_]:
    return is_constant(np.moveaxis(values, 2, 0).reshape(values.shape[2], -1))
