"""Checks of an audit: whether its own figures may be believed."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from scipy.stats import chi2, norm, t

from ppl_models.checks import Check
from ppl_models.inference.chain_limits import ESS_LIMIT, RHAT_LIMIT
from ppl_models.workflow.audit.posterior_audit import Estimates, PosteriorAudit

CHAINS, ORDER, BRACKET = "rows whose MCMC fails its gates", "bounds out of order", "bracket"
CHANCE = 0.001
"""How often chance alone may break the order of the bounds, over all rows and pairs."""
WIDEST = 1.0
"""Nats: the mean width of a bracket that still resolves gaps."""


def audit_checks(audit: PosteriorAudit, labels: Sequence[object] | None = None) -> PosteriorAudit:
    """The audit with the checks of its own health.

    Args:
        audit: what was found.
        labels: what each row is called; its number if not given.
    """
    names = [f"row {label}" for label in (range(audit.num_rows) if labels is None else labels)]
    found = (_check_chains(audit, names), _check_order(audit, names), _check_bracket(audit, names))
    return replace(audit, checks=(*found, _check_best(audit, names)))


def _check_chains(audit: PosteriorAudit, names: Sequence[str]) -> Check:
    """No row may fail; failures that chance gives where many rows are looked at are not resolved."""
    failing = np.flatnonzero(~audit.reliable)
    named = ", ".join(f"{names[row]} (R-hat {audit.rhat[row]:.3f}, ESS {audit.ess[row]:.0f})" for row in failing[:5])
    detail = f"largest R-hat {audit.rhat.max():.4f} (limit {RHAT_LIMIT}), least ESS {audit.ess.min():.0f} "
    detail += f"(limit {ESS_LIMIT:.0f}), {audit.divergences.sum()} divergences"
    detail = f"{detail}; {named}" if named else detail
    if not len(failing):
        return Check(CHAINS, 0.0, 0.0, True, "", detail=detail)
    chance = (audit.ess >= ESS_LIMIT) & (audit.divergences == 0) & (audit.rhat <= _rhat_by_chance(audit))
    if chance[failing].all():
        detail = f"{detail}; no more than chance gives over so many rows and units"
        return Check(CHAINS, float(len(failing)), 0.0, None, "raise num_draws", detail=detail)
    advice = "raise num_warmup and num_draws; leave these rows out of what is said of MCMC"
    return Check(CHAINS, float(len(failing)), 0.0, False, advice, detail=detail)


def _rhat_by_chance(audit: PosteriorAudit) -> np.ndarray:
    """The largest R-hat that well-mixed chains of each row's effective number show, over all rows and units."""
    halves = 2 * audit.draws.shape[0]
    quantile = chi2.isf(CHANCE / (2 * audit.num_rows * len(audit.units)), halves - 1) / (halves - 1)
    return np.sqrt(1.0 + (quantile - 1.0) * halves / audit.ess)


def _check_order(audit: PosteriorAudit, names: Sequence[str]) -> Check:
    """L_1 <= L_5 <= ... <= log p(x) <= the reverse run, row by row, within errors."""
    chain: list[tuple[str, Estimates]] = [(f"L_{size}", audit.bounds[size]) for size in sorted(audit.bounds)]
    chain += [("log p(x)", audit.log_evidence), ("the reverse run", audit.upper)]
    sizes = [audit.config["num_guide_draws"] // size for size in sorted(audit.bounds)]
    groups = [*sizes, math.inf, audit.config["num_annealing_chains"]]
    pairs = [
        (f"{a} <= {b}", _as_normal(_excess(low, high), min(few)))
        for ((a, low), (b, high)), few in zip(pairwise(chain), pairwise(groups), strict=True)
    ]
    number = len(pairs) * audit.num_rows
    limit = float(norm.isf(CHANCE / number))
    name, advice = ORDER, "raise num_guide_draws, num_temperatures and num_draws"
    if any(np.isnan(excess).any() for _, excess in pairs):
        return Check(name, math.nan, limit, None, advice, detail="some bounds are not finite")
    worst_name, worst = max(pairs, key=lambda pair: float(pair[1].max()))
    row = int(worst.argmax())
    detail = f"the largest excess in standard errors: {worst_name} at {names[row]}"
    value = float(worst[row])
    return Check(name, value, limit, value <= limit, "" if value <= limit else advice, detail=detail)


def _as_normal(excess: np.ndarray, number: float) -> np.ndarray:
    """Student's t of a mean of so few numbers as the normal deviate that is as rare: errors of 16 chains are rough."""
    rare = t.sf(np.abs(excess), number - 1.0) if math.isfinite(number) else norm.sf(np.abs(excess))
    return np.copysign(norm.isf(np.maximum(rare, np.finfo(float).tiny)), excess)


def _excess(low: Estimates, high: Estimates) -> np.ndarray:
    """By how many standard errors the one is above the other; rounding does not count."""
    apart = low.less(high)
    rounding = 1e-7 * (1.0 + np.abs(low.value))
    with np.errstate(invalid="ignore"):
        return (apart.value - rounding) / np.maximum(apart.error, rounding)


def _check_bracket(audit: PosteriorAudit, names: Sequence[str]) -> Check:
    width = audit.bracket
    value = float(width.mean())
    error = float(np.hypot(audit.lower.mean_error, audit.upper.mean_error))
    detail = f"mean over the rows, nats; the widest is {width.max():.3g} at {names[int(width.argmax())]}"
    passed = bool(value <= WIDEST) if math.isfinite(value) else None
    return Check(BRACKET, value, WIDEST, passed, "" if passed else "raise num_temperatures", error, detail)


def _check_best(audit: PosteriorAudit, names: Sequence[str]) -> Check:
    """Each row's own best normal cannot be worse than the amortised one of the same family."""
    name, limit = "best below amortised", float(norm.isf(CHANCE / audit.num_rows))
    if audit.guide_family != audit.best_family:
        detail = f"not comparable: the guide is {audit.guide_family}, the best normal {audit.best_family}"
        return Check(name, math.nan, limit, None, "", detail=detail)
    gap = audit.amortisation_gap
    rounding = 1e-7 * (1.0 + np.abs(audit.elbo.value))
    excess = (-gap.value - rounding) / np.maximum(gap.error, rounding)
    row = int(excess.argmax())
    value = max(0.0, float(excess[row]))
    passed = value <= limit
    detail = f"by how many standard errors, at most: at {names[row]}, {-gap.value[row]:.3g} nats below it"
    if value == 0.0:
        detail = f"nowhere; nearest at {names[row]}, {max(0.0, gap.value[row]):.3g} nats above it"
    return Check(name, value, limit, passed, "" if passed else "give the optimiser more steps", detail=detail)
