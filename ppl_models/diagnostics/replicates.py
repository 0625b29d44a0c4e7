"""What independent replicates of importance-weighted draws agree on: k-hat, moments, and their Monte Carlo errors."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ppl_models.checks import Check
from ppl_models.diagnostics.khat import khat_limit, nearly_constant, psis_weights

Float64Array = NDArray[np.float64]

ERROR_LIMIT = 0.03
"""Largest standard error of a corrected mean, in posterior sds, and of a log sd: three of them are within 10 %."""
MEAN_LIMIT, NARROW_LIMIT = 1.0, math.log(2.0)
"""Sds that a guide's mean may be away from the corrected one, and the factor by which its sd may be too small: beyond
them the weights are not to be believed. Draws that are too narrow may have missed what no weight can know; draws that
are too wide have not, and cost precision, which is measured.
"""
DISTANCE_LIMIT = 0.1
"""In posterior sds, and in log sds: how far other proposals may move the corrected moments."""
POOLED_ERROR_LIMIT = 2.0 * ERROR_LIMIT
"""What pooled moments that are known less well say is no agreement: a heavy draw may stand for a whole mode."""
CLEARLY = 3.0
"""Standard errors by which moments known less well must differ before that counts."""
FLOOR = 1e-12
CHANCE = 2.0
"""Root mean square of three standard normals is below this but for one time in a hundred."""


@dataclass(frozen=True)
class Moments:
    """Means and standard deviations of scalar parameters from weighted draws, with Monte Carlo errors.

    Attributes:
        mean: shape (parameter,).
        sd: shape (parameter,).
        mean_error: standard errors of the means, in sds.
        log_sd_error: standard errors of the log sds.
    """

    mean: Float64Array
    sd: Float64Array
    mean_error: Float64Array
    log_sd_error: Float64Array

    @property
    def varies(self) -> NDArray[np.bool_]:
        """Which parameters vary."""
        return self.finite & (self.sd > FLOOR * np.maximum(np.abs(self.mean), FLOOR))

    @property
    def finite(self) -> NDArray[np.bool_]:
        """Which parameters have finite moments."""
        return np.isfinite(self.mean) & np.isfinite(self.sd)


@dataclass(frozen=True)
class Replicates:
    """Importance-weighted draws in independent replicates.

    Attributes:
        khat: k-hat of all draws together; 0, here and below, where weights are nearly constant.
        khats: k-hat of each replicate, shape (replicate,).
        log_weights: Pareto-smoothed log weights of all draws, in order, shape (replicate * draw,).
        corrected: moments by these weights.
        raw: moments of the draws themselves.
        log_evidence: log of the mean importance ratio, in nats.
    """

    khat: float
    khats: Float64Array
    log_weights: Float64Array
    corrected: Moments
    raw: Moments
    log_evidence: float

    @property
    def khat_bound(self) -> float:
        """k-hat with two standard errors of the mean over replicates, or of all draws together if that is more."""
        spread = float(self.khats.std(ddof=1)) if len(self.khats) > 1 else 0.0
        upper = float(self.khats.mean()) + 2.0 * spread / math.sqrt(len(self.khats))
        return max(upper, self.khat)

    @property
    def heaviest(self) -> float:
        """How many times the mean weight the heaviest draw has."""
        return float(self.log_weights.size * np.exp(self.log_weights.max()))

    @property
    def num_effective(self) -> float:
        """Effective number of draws, 1 / sum of squared weights."""
        return float(np.exp(-np.logaddexp.reduce(2.0 * self.log_weights)))


def replicates(values: Float64Array, log_ratio: Float64Array) -> Replicates:
    """Pareto-smoothed importance sampling in replicates.

    The errors of the corrected moments are those of the delta method, widened where the replicates differ by more: a
    heavy tail shows in both.

    Args:
        values: draws of scalar parameters, shape (replicate, draw, parameter).
        log_ratio: log p - log q in nats, shape (replicate, draw).

    Vehtari et al. (2024), Pareto smoothed importance sampling, JMLR 25(72).
    """
    weights, khat = psis_weights(log_ratio.reshape(-1))
    pooled = weighted_moments(values.reshape(-1, values.shape[-1]), weights)
    each = [psis_weights(ratio) for ratio in log_ratio]
    parts = [weighted_moments(value, found[0]) for value, found in zip(values, each, strict=True)]
    num_draws = log_ratio.size
    flat = np.full(num_draws, -math.log(num_draws))
    top = float(log_ratio.max())
    return Replicates(
        khat=0.0 if nearly_constant(log_ratio.reshape(-1)) else khat,
        khats=np.where(nearly_constant(log_ratio.T), 0.0, [found[1] for found in each]),
        log_weights=weights,
        corrected=_widened(pooled, parts),
        raw=weighted_moments(values.reshape(-1, values.shape[-1]), flat),
        log_evidence=top + math.log(float(np.exp(log_ratio - top).mean())),
    )


def weighted_moments(values: Float64Array, log_weights: Float64Array) -> Moments:
    """Moments of weighted draws and their errors by the delta method for self-normalised weights.

    Args:
        values: shape (draw, parameter).
        log_weights: their exponentials sum to one, shape (draw,).
    """
    weights = np.exp(log_weights)[:, None]
    values = np.where(weights > 0.0, values, 0.0)  # what has no weight may be anything, also not finite
    mean = (weights * values).sum(axis=0)
    centred = values - mean
    variance = (weights * centred**2).sum(axis=0)
    sd = np.sqrt(variance)
    safe = np.where(sd > FLOOR * np.maximum(np.abs(mean), FLOOR), sd, np.inf)
    mean_error = np.sqrt((weights**2 * centred**2).sum(axis=0)) / safe
    log_sd_error = np.sqrt((weights**2 * (centred**2 - variance) ** 2).sum(axis=0)) / (2.0 * safe**2)
    return Moments(mean, sd, mean_error, log_sd_error)


def check_replicates(found: Replicates) -> tuple[Check, Check, Check]:
    """Whether importance weighting can be relied on: k-hat, Monte Carlo error, and how much it had to correct.

    Args:
        found: from `replicates`.

    Returns:
        The checks `k-hat` (the mean over replicates with two standard errors, or that of all draws if larger),
        `Monte Carlo error` (largest standard error of a corrected mean, in sds, or of a log sd) and `correction`
        (how far the guide's own moments are from the corrected ones, in units of its limits: 1 is a whole sd, the
        larger of the two, in a mean, or an sd of half the size).
    """
    limit = khat_limit(found.log_weights.size // max(len(found.khats), 1))
    spread = ", ".join(f"{khat:.2f}" for khat in found.khats)
    bound = found.khat_bound
    khat = Check("k-hat", bound, limit, bool(bound <= limit), "a richer guide", detail=f"replicates {spread}")
    if not found.corrected.finite.all():
        number = int((~found.corrected.finite).sum())
        detail = f"{number} parameters have draws that are not finite, or overflow"
        unknown = [
            Check(name, math.nan, math.nan, None, "", detail=detail) for name in ("Monte Carlo error", "correction")
        ]
        return khat, unknown[0], unknown[1]
    varies = found.corrected.varies
    errors = np.maximum(found.corrected.mean_error, found.corrected.log_sd_error)[varies]
    error = float(errors.max(initial=0.0))
    precision = Check(
        "Monte Carlo error",
        error,
        ERROR_LIMIT,
        bool(error <= ERROR_LIMIT),
        "more draws",
        detail=f"{found.num_effective:,.0f} effective of {found.log_weights.size:,} draws",
    )
    shift, ratio = distances(found.raw, found.corrected)
    away = float((shift / np.exp(np.maximum(ratio, 0.0))).max(initial=0.0))
    narrow, wide = (float(side.max(initial=0.0)) for side in (-ratio, ratio))
    moved = max(away / MEAN_LIMIT, narrow / NARROW_LIMIT)
    detail = (
        f"the guide's means are up to {away:.2g} sd off, its sds up to {math.exp(narrow):.2g} times too small and "
        f"{math.exp(wide):.2g} times too large"
    )
    return khat, precision, Check("correction", moved, 1.0, bool(moved <= 1.0), "a richer guide", detail=detail)


def check_others(found: Moments, others: Moments, labels: Sequence[str]) -> Check:
    """Whether proposals from independent starts agree on the moments.

    Args:
        found: corrected moments of the fit.
        others: corrected moments of the fit's draws together with those of other proposals.
        labels: names of the parameters.

    Returns:
        The check `other starts`: the largest distance in sds or log sds, less two standard errors; less three where the
        others are not known well, and then it fails or is not measured.
    """
    shift, ratio = distances(found, others)
    error = np.maximum(np.hypot(found.mean_error, others.mean_error), np.hypot(found.log_sd_error, others.log_sd_error))
    unknown = float(np.where(others.varies, np.maximum(others.mean_error, others.log_sd_error), 0.0).max(initial=0.0))
    known = bool(others.finite.all()) and unknown <= POOLED_ERROR_LIMIT
    chance = (2.0 if known else CLEARLY) * error
    distance = np.where(found.varies, np.maximum(shift, np.abs(ratio)) - chance, 0.0)
    worst = int(distance.argmax()) if distance.size else 0
    value = max(0.0, float(distance.max(initial=0.0)))
    agrees = value <= DISTANCE_LIMIT
    if not others.finite.all() or (agrees and not known):
        detail = f"with draws from other starts the moments are known to {unknown:.2g} sd only"
        return Check("other starts", math.nan, DISTANCE_LIMIT, None, "a guide with several modes", detail=detail)
    detail = f"draws from other starts move '{labels[worst]}' by {value:.2g} sd beyond chance" if value else ""
    return Check("other starts", value, DISTANCE_LIMIT, agrees, "a guide with several modes", detail=detail)


def distances(first: Moments, second: Moments) -> tuple[Float64Array, Float64Array]:
    """Distances of means in sds of the second, and log ratios of sds; 0 where the second does not vary."""
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = np.where(second.varies, np.abs(first.mean - second.mean) / second.sd, 0.0)
        ratio = np.where(second.varies, np.log(first.sd / second.sd), 0.0)
    return shift, ratio


def _widened(pooled: Moments, parts: Sequence[Moments]) -> Moments:
    """The pooled moments with errors that the differences between replicates bear out."""
    if len(parts) < 2:
        return pooled
    keep = pooled.varies
    if not keep.any():
        return pooled
    means = np.stack([(part.mean - pooled.mean) / np.where(keep, pooled.sd, 1.0) for part in parts])[:, keep]
    logs = np.stack([np.log(np.maximum(part.sd, FLOOR) / np.where(keep, pooled.sd, 1.0)) for part in parts])[:, keep]
    number = len(parts)
    factors = []
    for spread, error in ((means, pooled.mean_error[keep]), (logs, pooled.log_sd_error[keep])):
        expected = np.sqrt(number) * np.maximum(error, FLOOR)
        z = (spread - spread.mean(axis=0)) / expected
        own = np.sqrt((z**2).sum(axis=0) / (number - 1))
        together = math.sqrt(float((own**2).mean()))
        factor = np.ones(len(keep))
        factor[keep] = np.maximum(max(1.0, together), own / CHANCE)
        factors.append(factor)
    return Moments(pooled.mean, pooled.sd, pooled.mean_error * factors[0], pooled.log_sd_error * factors[1])
