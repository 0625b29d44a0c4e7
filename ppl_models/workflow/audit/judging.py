"""From the figures of an audit to its checks, and from the checks to a verdict on q(z | x)."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from ppl_models.checks import Check
from ppl_models.diagnostics import ActiveUnits
from ppl_models.diagnostics.by_datum import CONSTANT, check_largest_khat
from ppl_models.diagnostics.by_datum import NAME as KHAT
from ppl_models.diagnostics.khat import NEARLY_CONSTANT
from ppl_models.diagnostics.sample_size import khat_limit
from ppl_models.workflow.audit.checking import BRACKET, CHAINS, ORDER
from ppl_models.workflow.audit.posterior_audit import Estimates, PosteriorAudit

TRUST, CORRECT, REJECT = "trust", "correct", "reject"
GAP_PER_UNIT = 0.02
"""Nats: the KL of a normal from one whose mean is 0.2 sd away, the largest error of a mean that counts as none."""
MEAN_LIMIT, SD_LIMIT = 0.2, math.log(1.2)
RESOLUTION = 3.0
MOST_UNRELIABLE = 0.05
"""Share of the rows that MCMC may fail at, and the others still speak for all."""
GAPS = ("inference gap", "amortisation gap", "approximation gap")
GAP_ADVICE = {
    "inference gap": "weight the draws, or sample these rows by MCMC",
    "amortisation gap": "a larger encoder, or longer training of it; refine each row's q by itself",
    "approximation gap": "a richer family for q(z | x): full_rank, iaf, realnvp",
}


def not_measured(name: str, limit: float, why: str) -> Check:
    """A check that was left out or could not be had."""
    return Check(name, math.nan, limit, None, "", detail=f"not measured: {why}")


def khat_check(table: pd.DataFrame, num_draws: int, limit: float) -> Check:
    """Judge the weights of each row's draws, where weights are needed: k-hat has no scale.

    Rows count as within the limit whose weights are nearly constant, and those whose gap, known from the bracket and
    not from the weights, is surely small: the gap is KL(q || p), and sqrt(KL / 2) bounds the error of any probability
    under q (Pinsker), so that draws of q will do as they are.

    Args:
        table: one row per datum, with `khat` and `relative_ess`, and `inference_gap` where it was measured.
        num_draws: behind each k-hat.
        limit: of a row's gap, nats.
    """
    advice = "for these rows draws by MCMC; for all of them a richer or wider q(z | x)"
    constant, close = _excused(table, limit)
    return check_largest_khat(
        KHAT,
        table["khat"].to_numpy(dtype=float),
        [f"row {label}" for label in table.index],
        num_draws,
        advice,
        excused={CONSTANT: constant, f"have a gap surely below {limit:.3g} nats, and need no weights": close},
        more_draws="raise num_guide_draws",
    )


def _excused(table: pd.DataFrame, limit: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows with nearly constant weights, and others whose gap is surely within its limit."""
    constant = table["relative_ess"].to_numpy(dtype=float) >= NEARLY_CONSTANT
    if "inference_gap" not in table:
        return constant, np.zeros_like(constant)
    gap, error = (table[name].to_numpy(dtype=float) for name in ("inference_gap", "inference_gap_se"))
    return constant, ~constant & (gap + RESOLUTION * error <= limit)


def gap_limit(num_units: int) -> float:
    """Nats per datum: KL(q || p) where every unit's mean is 0.2 sd off and all else is right."""
    return GAP_PER_UNIT * num_units


def gap_checks(found: PosteriorAudit) -> list[Check]:
    """The mean over the rows of each gap, nats per datum."""
    parts = (found.inference_gap, found.amortisation_gap, found.approximation_gap)
    limit = gap_limit(len(found.units))
    return [_gap(name, part, limit) for name, part in zip(GAPS, parts, strict=True)]


def moment_checks(found: PosteriorAudit, labels: Sequence[object]) -> list[Check]:
    """Means and sds of q(z | x) against MCMC: root mean squares over rows that MCMC could sample, of the worst unit.

    Not over the units: half a posterior sd in one unit of ten is 0.16 over all of them.
    """
    reliable, moments = found.reliable, found.moments
    parts = (
        ("means against MCMC", moments.mean_error_sd, moments.mean_error_sd_error, MEAN_LIMIT, "posterior sds"),
        ("sds against MCMC", moments.log_sd_ratio, moments.log_sd_ratio_error, SD_LIMIT, "log sd ratio"),
    )
    if not reliable.any():
        return [not_measured(name, limit, "MCMC failed at every row") for name, *_, limit, _ in parts]
    return [
        _moments(name, values[reliable], errors[reliable], limit, what, found, labels)
        for name, values, errors, limit, what in parts
    ]


def verdict(
    units: ActiveUnits, table: pd.DataFrame, checks: Sequence[Check], health: Sequence[Check], num_draws: int
) -> tuple[str, tuple[str, ...]]:
    """What the figures say of q(z | x) at these rows, and why.

    Without trust in what it was held against there is none in q(z | x): checks of `health` that fail count too.
    A fit whose units all collapsed is rejected as a representation, even where q(z | x), the prior, is the posterior.
    Weights of a typical row that cannot be used reject where the gap fails or was not measured: alone they may be those
    of a q so near to the posterior that it needs none.
    """
    named = {check.name: check for check in checks}
    khat, limit = table["khat"].to_numpy(dtype=float), khat_limit(num_draws)
    if units.collapse == "all":
        return REJECT, (f"collapsed: none of the {len(units.labels)} units tells anything about the data",)
    if not np.isfinite(table["elbo"]).all() or np.isnan(khat).all():
        return REJECT, ("the densities of some rows are not finite",)
    needless, gap = np.any(_excused(table, gap_limit(len(units.labels))), axis=0), named[GAPS[0]]
    typical = float(np.nanmedian(np.where(needless, np.fmin(khat, limit), khat)))
    if typical > limit and (gap.passed is False or math.isnan(gap.value)):
        return REJECT, (f"the weights of a typical row cannot be used: median k-hat {typical:.2f}, limit {limit:.2f}",)
    reasons = [] if named[KHAT].passed is True else [_about_weights(named[KHAT], table, limit, needless)]
    for name in (GAPS[0], "means against MCMC", "sds against MCMC", "SBC of the encoder"):
        check = named.get(name)
        if check is None or check.passed is True:
            continue
        what = "fails" if check.passed is False else "was not measured or resolved"
        figure = f" ({check.measured}, limit {check.limit:.3g})" if check.passed is False else ""
        reasons.append(f"{name} {what}{figure}")
    for check in health:
        few = check.name == CHAINS and check.value <= MOST_UNRELIABLE * len(table)
        if check.name in (CHAINS, ORDER, BRACKET) and check.passed is False and not few:
            reasons.append(f"the audit's own {check.name} ({check.measured}, limit {check.limit:.3g}) fails")
    if reasons:
        return CORRECT, ("draws are usable when weighted, row by row", *reasons)
    return TRUST, (f"q(z | x) is the posterior but for {named[GAPS[0]].value:.2g} nats per datum",)


def _about_weights(check: Check, table: pd.DataFrame, limit: float, needless: np.ndarray) -> str:
    khat = table["khat"].to_numpy(dtype=float)[~needless]
    beyond = int((khat > limit).sum())
    seem = f"{beyond} of {len(table)} rows"
    if check.passed is False:
        return f"{seem} have weights beyond the limit of k-hat: use MCMC for them"
    if beyond:
        return f"{seem} seem beyond the limit of k-hat, no more than chance gives: not resolved, {check.advice}"
    return f"k-hat was not measured at {int(np.isnan(khat).sum())} of {len(table)} rows"


def _gap(name: str, found: Estimates, limit: float) -> Check:
    if not np.isfinite(found.value).all():
        return not_measured(name, limit, "not finite at every row")
    value, error = found.mean, found.mean_error
    chance = RESOLUTION * error if math.isfinite(error) else math.inf
    passed = True if value + chance <= limit else False if value - chance > limit else None
    worst = int(found.value.argmax())
    detail = f"nats per datum, mean over {len(found.value)} rows; the largest {found.value[worst]:.3g}"
    advice = {True: "", False: GAP_ADVICE[name], None: "more draws of q, or more temperatures"}[passed]
    return Check(name, value, limit, passed, advice, error, detail)


def _moments(
    name: str,
    values: np.ndarray,
    errors: np.ndarray,
    limit: float,
    what: str,
    found: PosteriorAudit,
    labels: Sequence[object],
) -> Check:
    if not (np.isfinite(values).all() and np.isfinite(errors).all()):
        return not_measured(name, limit, "not finite at every row")
    squares = (values**2 - errors**2).mean(axis=0)  # the draws' own noise is no error of q
    roots = np.sqrt(np.maximum(squares, 0.0))
    noise = 2.0 * np.sqrt((values**2 * errors**2 + 0.5 * errors**4).sum(axis=0)) / len(values)
    mcse = noise / np.maximum(np.maximum(2.0 * roots, np.sqrt(noise)), 1e-12)
    high, low = roots + RESOLUTION * mcse, roots - RESOLUTION * mcse
    passed = True if (high <= limit).all() else False if (low > limit).any() else None
    worst = int((low if passed is False else high).argmax())
    rows = np.flatnonzero(found.reliable)
    row, unit = np.unravel_index(int(np.abs(values).argmax()), values.shape)
    detail = f"{what}, root mean square over {len(rows)} rows, the worst of {values.shape[1]} units: "
    detail += f"`{found.units[worst]}`; the largest {values[row, unit]:+.2f}, `{found.units[unit]}` at row "
    detail += f"{labels[rows[row]]}"
    advice = {True: "", False: GAP_ADVICE[GAPS[0]], None: "more draws"}[passed]
    return Check(name, float(roots[worst]), limit, passed, advice, float(mcse[worst]), detail)
