"""Pareto k-hat: how heavy the right tail of the importance weights is."""

import math

import numpy as np
from arviz_stats.base import array_stats
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from ppl_models.checks import Check
from ppl_models.diagnostics.sample_size import khat_limit, smallest_num_draws
from ppl_models.errors import DataError
from ppl_models.inference.evidence.weight_means import effective_number

MIN_DRAWS = 100
ADVISED_DRAWS = 10_000
KHAT_GOOD = 0.5
ROUNDING = 1e-6  # nats; weights this equal are those of the posterior itself
NEARLY_CONSTANT = 0.99
"""Of `relative_ess`: from here on k-hat says nothing of weights."""
TOO_NEAR = "too near its limit to tell"

Float64Array = NDArray[np.float64]


def pareto_khat(log_ratio: ArrayLike) -> float:
    """Shape of the generalised Pareto tail of the importance ratios, k-hat.

    Args:
        log_ratio: log p - log q in nats, shape (draw,); at least 100 draws; -inf is a weight of zero.

    Returns:
        k-hat (unitless): below 0 for bounded ratios, at least 1 where the ratios have no mean; inf when the ratios
        span so many nats that one draw carries all the weight; NaN when ties leave no tail to fit.

    Raises:
        DataError: wrong shape, fewer than 100 draws, NaN or +inf among the ratios, or all of them -inf.

    Vehtari, Simpson, Gelman, Yao and Gabry (2024), Pareto smoothed importance sampling, JMLR 25(72).
    """
    return psis_weights(log_ratio)[1]


def psis_weights(log_ratio: ArrayLike) -> tuple[Float64Array, float]:
    """Pareto-smoothed importance weights and their k-hat.

    Args:
        log_ratio: log p - log q in nats, shape (draw,); at least 100 draws; -inf is a weight of zero.

    Returns:
        The log weights, shape (draw,), whose exponentials sum to one, and k-hat. Where k-hat is not finite, or the
        largest ratios are all equal, the weights are normalised but not smoothed.

    Raises:
        DataError: as `pareto_khat`.
    """
    ratios = valid_log_ratio(log_ratio)
    centred = ratios - ratios.max()
    unsmoothed = centred - logsumexp(centred)
    khat = _degenerate_khat(centred)
    if khat is not None:
        return unsmoothed, khat
    with np.errstate(all="ignore"):
        # psislw negates its argument: it was written for log likelihoods that are left out
        weights, fitted = array_stats.psislw(-centred, r_eff=1)
    weights, khat = np.asarray(weights, dtype=float), float(fitted)
    if math.isnan(khat) or np.isnan(weights).any():
        return unsmoothed, math.nan
    return weights, khat


def relative_ess(log_ratio: ArrayLike) -> Float64Array:
    """Effective share of draws under their raw normalised weights w: 1 / (S sum w^2).

    k-hat is the shape of the tail whatever its scale: weights between 0.99 and 1.02 may have one of 2. Yet where this
    share is 0.99 or more, weighting moves no mean by more than a tenth of a sd, by Cauchy and Schwarz: |sum w h -
    mean h| <= sd(h) sqrt(S sum w^2 - 1). One large weight among constant ones brings the share down.

    Args:
        log_ratio: log p - log q in nats, shape (draw, ...).

    Returns:
        Between 0 and 1, shape (...); NaN where a ratio is NaN or +inf, or all are -inf.
    """
    ratios = np.asarray(log_ratio, dtype=float)
    return np.where(np.isfinite(ratios.max(axis=0)), effective_number(ratios) / len(ratios), np.nan)


def nearly_constant(log_ratio: ArrayLike) -> NDArray[np.bool_]:
    """Whether weights are so nearly constant that k-hat says nothing of them, shape (...) of ratios (draw, ...)."""
    return relative_ess(log_ratio) >= NEARLY_CONSTANT


def check_khat(log_ratio: ArrayLike, *, num_bootstrap: int = 40, seed: int = 0) -> Check:
    """Judge the importance ratios of a fit by their Pareto tail.

    Args:
        log_ratio: log p - log q in nats, shape (draw,); at least 100 draws, better 10,000.
        num_bootstrap: bootstrap replicates behind the Monte Carlo error: the draws are resampled, k-hat is refitted,
            and the standard deviation over the replicates is reported.
        seed: seed of the bootstrap.

    Returns:
        The check. `passed` is None where k-hat is within its limit by less than its own error, and, with a value of
        NaN, where it is not measured: fewer than 100 draws, NaN or +inf ratios, or ratios that are all -inf. Ratios
        that are all equal pass: the guide is the posterior, unless it is a point estimate, whose k-hat means nothing.
        Nearly constant weights count as those of a k-hat of 0 where that of the fit is not within the limit.

    Raises:
        DataError: the ratios are not one-dimensional.
    """
    ratios = np.asarray(log_ratio, dtype=float)
    if ratios.ndim != 1:
        raise DataError(f"log_ratio: shape {ratios.shape}, needs (draw,). Stack the chains first.")
    limit = khat_limit(max(ratios.size, MIN_DRAWS))
    try:
        khat = pareto_khat(ratios)
    except DataError as error:
        return Check("k-hat", math.nan, limit, None, "find the draws whose density is not finite", detail=str(error))
    if not khat <= limit and nearly_constant(ratios):
        return Check("k-hat", 0.0, limit, True, "", detail=f"{ratios.size:,} draws, {_constant(ratios, khat)}")
    if math.isnan(khat):
        return Check("k-hat", khat, limit, None, "draw more", detail="ties among the largest log ratios")
    mcse = _bootstrap_error(ratios, num_bootstrap, seed) if math.isfinite(khat) else math.nan
    detail = _detail(ratios, khat)
    if khat <= limit < khat + mcse:
        if nearly_constant(ratios):
            return Check("k-hat", khat, limit, True, "", mcse, f"{detail}, {_constant(ratios, khat)}")
        return Check("k-hat", khat, limit, None, "raise num_draws", mcse, f"{detail}, {TOO_NEAR}")
    return Check("k-hat", khat, limit, khat <= limit, _advice(khat, limit), mcse, detail)


def too_near(khat: Check) -> bool:
    """Whether k-hat was measured, within its limit, but by less than its own error."""
    return khat.passed is None and khat.value <= khat.limit


def valid_log_ratio(log_ratio: ArrayLike) -> Float64Array:
    """The log ratios as a float array, or a `DataError` that says what is wrong with them."""
    ratios = np.asarray(log_ratio, dtype=float)
    if ratios.ndim != 1:
        raise DataError(f"log_ratio: shape {ratios.shape}, needs (draw,). Stack the chains first.")
    if ratios.size < MIN_DRAWS:
        raise DataError(f"log_ratio: {ratios.size} draws, needs at least {MIN_DRAWS}. Draw more from the fit.")
    bad = np.isnan(ratios) | np.isposinf(ratios)
    if bad.any():
        raise DataError(
            f"log_ratio: {bad.sum()} of {ratios.size} values are NaN or +inf (first at draw {bad.argmax()}), "
            "needs log p - log q finite or -inf. Evaluate both densities at these draws in float64."
        )
    if np.isneginf(ratios).all():
        raise DataError(
            "log_ratio: every value is -inf, the posterior density is zero at every draw. "
            "Check that guide and model have the same support."
        )
    return ratios


def _degenerate_khat(centred: Float64Array) -> float | None:
    """The k-hat of ratios whose tail cannot be fitted; None for all others.

    The fit divides by the lower quartile of the exceedances. Where that is zero, arviz returns its prior, which
    would pass the worst of guides.
    """
    if -centred.min() <= ROUNDING:
        return 0.0
    size = centred.size
    num_tail = math.floor(3 * math.sqrt(size)) if size > 225 else size // 5
    ordered = np.sort(centred)
    cutoff, tail = ordered[-num_tail - 1], ordered[-num_tail:]
    if tail[0] == tail[-1]:
        return 0.0  # an atom at the largest ratio: bounded
    quartile = tail[int(num_tail / 4 + 0.5) - 1]
    if math.exp(quartile) > math.exp(cutoff):
        return None
    tied = quartile == cutoff and math.isfinite(cutoff)
    return math.nan if tied and math.exp(cutoff) > 0 else math.inf


def _bootstrap_error(ratios: Float64Array, num_bootstrap: int, seed: int) -> float:
    rng = np.random.default_rng(seed)
    resampled = (rng.choice(ratios, size=ratios.size) for _ in range(num_bootstrap))
    khats = np.array([psis_weights(ratio)[1] for ratio in resampled if np.isfinite(ratio).any()])
    khats = khats[np.isfinite(khats)]
    return float(khats.std(ddof=1)) if khats.size > 1 else math.nan


def _constant(ratios: Float64Array, khat: float) -> str:
    share = f"the weights are nearly constant (effective share {100.0 * float(relative_ess(ratios)):.1f} %)"
    return f"{share}, where k-hat, {khat:.2f} by the fit, says nothing"


def _advice(khat: float, limit: float) -> str:
    if khat > limit:
        return "do not importance-weight; use a richer guide, another parametrisation, or MCMC"
    if khat > KHAT_GOOD:
        return "usable after PSIS correction, with slow convergence"
    return ""


def _detail(ratios: Float64Array, khat: float) -> str:
    notes = [f"{ratios.size:,} draws"]
    if ratios.size < ADVISED_DRAWS:
        notes.append(f"fewer than the {ADVISED_DRAWS:,} advised")
    if MIN_DRAWS < (fewest := smallest_num_draws(khat)) < math.inf:
        notes.append(f"importance weighting needs {math.ceil(fewest):,} at this k-hat")
    if zeros := int(np.isneginf(ratios).sum()):
        notes.append(f"{zeros:,} of them have zero posterior density")
    if khat == math.inf:
        notes.append("the log ratios span hundreds of nats: one draw carries all the weight")
    if np.ptp(ratios) <= ROUNDING:
        notes.append("the log ratios are equal but for rounding: the guide is the posterior up to a constant")
    return ", ".join(notes)
