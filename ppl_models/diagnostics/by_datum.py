"""k-hat of each datum: whose local latents a guide misses, where one weight for everything would hide it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm, poisson

from ppl_models.checks import Check
from ppl_models.diagnostics.khat import MIN_DRAWS, nearly_constant
from ppl_models.diagnostics.pareto_columns import khat_columns
from ppl_models.diagnostics.sample_size import khat_limit
from ppl_models.errors import DataError
from ppl_models.inference.pareto_tail import PRIOR_DRAWS, tail_length

NAME = "k-hat by datum"
CHANCE = 0.01
"""How often chance alone may be taken for a fault, by the largest of all and by the number beyond the limit."""
CONSTANT = "have nearly constant weights, where k-hat says nothing"
NUM_NAMED = 5
NORMAL_MAD = 1.4826
"""Sds of a normal in its median absolute deviation."""
NODES = 200


def khat_by_datum(log_ratio: ArrayLike) -> NDArray[np.float64]:
    """k-hat of each datum's own importance ratios.

    Args:
        log_ratio: log p - log q in nats of each datum's part, shape (draw, datum); at least 100 draws.

    Returns:
        k-hat (unitless), shape (datum,); NaN where a datum's ratios hold NaN or +inf, or nothing but -inf; 0 where
        weights are nearly constant, as `nearly_constant` says.

    Raises:
        DataError: wrong shape, or fewer than 100 draws.

    Vehtari, Simpson, Gelman, Yao and Gabry (2024), Pareto smoothed importance sampling, JMLR 25(72).
    """
    khat = khat_columns(log_ratio)
    return np.where(nearly_constant(log_ratio), 0.0, khat)


def check_khat_by_datum(log_ratio: ArrayLike, labels: Sequence[str], *, where: str = "") -> Check:
    """Judge the local latents of every datum by the Pareto tails of their own importance ratios.

    Args:
        log_ratio: log p - log q in nats of each datum's part, shape (draw, datum); at least 100 draws.
        labels: names of the data.
        where: the plate that holds them, for the name of the check.

    Returns:
        The check, as `check_largest_khat` gives it; not measured with fewer than 100 draws, or without data.

    Raises:
        DataError: wrong shape, or another number of labels than of data.
    """
    ratios = np.asarray(log_ratio, dtype=float)
    name = f"{NAME} ({where})" if where else NAME
    if ratios.ndim != 2:
        raise DataError(f"log_ratio: shape {ratios.shape}, needs (draw, datum). Stack chains, and flatten the data.")
    if len(labels) != ratios.shape[1]:
        raise DataError(f"labels: {len(labels)} for {ratios.shape[1]} data, needs one each.")
    if len(ratios) < MIN_DRAWS:
        detail = f"not measured: {len(ratios)} draws, needs at least {MIN_DRAWS}"
        return Check(name, math.nan, khat_limit(MIN_DRAWS), None, "draw more", detail=detail)
    advice = "a guide that is wider, or depends on more, for these data; not one width for all of them"
    excused = {CONSTANT: nearly_constant(ratios)}
    return check_largest_khat(name, khat_by_datum(ratios), labels, len(ratios), advice, excused=excused)


def check_largest_khat(
    name: str,
    khat: NDArray[np.float64],
    labels: Sequence[str],
    num_draws: int,
    advice: str,
    *,
    relative_efficiency: float = 1.0,
    excused: Mapping[str, NDArray[np.bool_]] | None = None,
    more_draws: str = "raise num_draws",
) -> Check:
    """Judge many k-hats by the largest, and by how many are beyond the limit, against what chance gives.

    Each k-hat is fitted to M tail draws with a standard error of about (1 + k) / sqrt(M). Take the true ones to be
    normal, with the centre of the fitted ones and their spread less that error (median and median absolute deviation,
    which a few faults do not move). Those that are truly within the limit put N P(k <= limit < fitted) beyond it, and
    their largest stays below a t with N P(k <= limit, fitted > t) = 0.01. Beyond the limit and beyond either is a
    failure, and so is a median beyond the limit; beyond the limit but within both is not resolved.

    Args:
        name: of the check.
        khat: shape (datum,); NaN where it was not measured.
        labels: names of the data.
        num_draws: behind each k-hat.
        advice: what to do about a failure.
        relative_efficiency: effective draws of each draw.
        excused: data that count as within the limit whatever their k-hat, shape (datum,), by the reason, as a verb.
        more_draws: what to do where chance gives as much.

    Returns:
        The check; its value is the largest k-hat, its error that of the one fit.
    """
    limit = khat_limit(num_draws)
    if excused and any(where.any() for where in excused.values()):
        rest = ~np.any(list(excused.values()), axis=0)
        kept = [label for label, here in zip(labels, rest, strict=True) if here]
        options: Any = {"relative_efficiency": relative_efficiency, "more_draws": more_draws}
        parts = [f"{int(where.sum()):,} of {khat.size:,} {reason}" for reason, where in excused.items() if where.any()]
        if not kept:
            return Check(name, 0.0, limit, True, "", detail="; ".join(parts))
        found = check_largest_khat(name, khat[rest], kept, num_draws, advice, **options)
        return replace(found, detail="; ".join((found.detail, *parts)))
    known = ~np.isnan(khat)
    if not known.any():
        reason = "no datum" if not khat.size else "the log ratios of every datum hold NaN or infinities, or ties"
        return Check(name, math.nan, limit, None, "find the data whose density is not finite", detail=_not(reason))
    largest, typical = float(khat[known].max()), float(np.median(khat[known]))
    num_tail = tail_length(num_draws, relative_efficiency)
    beyond, number = int((khat[known] > limit).sum()), int(known.sum())
    by_largest, expected = _by_chance(khat[known], limit, num_tail)
    detail = _detail(khat, labels, limit, beyond, expected)
    mcse = _error(largest, num_tail)
    if beyond and (largest > by_largest or typical > limit or beyond > poisson.isf(CHANCE, expected)):
        return Check(name, largest, limit, False, advice, mcse, detail)
    if beyond:
        return Check(name, largest, limit, None, more_draws, mcse, f"{detail}: no more than chance gives")
    if number < khat.size:
        return Check(name, largest, limit, None, "find the data whose density is not finite", mcse, detail)
    return Check(name, largest, limit, True, "", mcse, detail)


def _by_chance(khat: NDArray[np.float64], limit: float, num_tail: int) -> tuple[float, float]:
    """What data truly within the limit stay below, the largest of them, and how many of them seem beyond the limit."""
    centre = float(np.median(khat))
    error = _error(centre, num_tail)
    if math.isnan(error):
        return limit, 0.0
    fitted_sd = NORMAL_MAD * float(np.median(np.abs(np.nan_to_num(khat) - centre)))
    spread = math.sqrt(max(0.0, fitted_sd**2 - error**2))
    true = centre + spread * norm.isf((np.arange(NODES) + 0.5) / NODES)
    within = true[true <= limit]
    errors = (1.0 + np.maximum(within, 0.0)) / (1.0 + max(centre, 0.0)) * error
    seen = np.linspace(limit, limit + 10.0 * _error(limit, num_tail), NODES)
    number = len(khat) / NODES * norm.sf((seen[:, None] - within) / errors).sum(axis=1)
    return float(seen[int((number > CHANCE).sum()) - 1]) if number[0] > CHANCE else limit, float(number[0])


def _error(khat: float, num_tail: int) -> float:
    """Standard error of a fit; bounded ratios have that of k = 0."""
    if not math.isfinite(khat):
        return math.nan
    return (1.0 + max(khat, 0.0)) / math.sqrt(num_tail) * num_tail / (num_tail + PRIOR_DRAWS)


def _not(reason: str) -> str:
    return f"not measured: {reason}"


def _detail(khat: NDArray[np.float64], labels: Sequence[str], limit: float, beyond: int, expected: float) -> str:
    order = np.argsort(-np.where(np.isnan(khat), -math.inf, khat), kind="stable")
    if beyond:
        named = ", ".join(f"{labels[i]} {khat[i]:.2f}" for i in order[: min(beyond, NUM_NAMED)])
        more = ", …" if beyond > NUM_NAMED else ""
        chance = f"{expected:.2g}" if expected >= 0.005 else "none"
        text = (
            f"{beyond:,} of {len(khat):,} beyond the limit of {limit:.2f} ({named}{more}), where chance puts {chance}"
        )
    else:
        text = f"the largest of {len(khat):,} is that of {labels[order[0]]}"
    unmeasured = int(np.isnan(khat).sum())
    return f"{text}; {unmeasured:,} not measured" if unmeasured else text
