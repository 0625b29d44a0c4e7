"""From checks to a verdict, by the table of rules."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd

from ppl_models.checks import Check
from ppl_models.diagnostics.gates import gates_passed
from ppl_models.diagnostics.joint import JOINT_LIMIT, unmeasured_joint
from ppl_models.diagnostics.khat import too_near
from ppl_models.diagnostics.moments import MOMENTS, moment_checks, unmeasured_moments, unmeasured_table
from ppl_models.diagnostics.reasons import (
    about_constants,
    about_gates,
    about_joint,
    about_khat,
    about_moments,
    about_scores,
    failure,
)
from ppl_models.diagnostics.rules import AGREES_ANYHOW, NOBODY_VOUCHES, OTHERWISE, RULES, UNREPAIRED, VETOES
from ppl_models.diagnostics.verdict import Verdict
from ppl_models.versions import version_of

VERSIONED = ("ppl-models", "arviz-stats", "numpy", "scipy", "xarray")
Said = tuple[str, str]
"""A verdict, and what to do."""


def decide(
    khat: Check,
    *,
    baseline_table: pd.DataFrame | None = None,
    gates: Sequence[Check] = (),
    pool_table: pd.DataFrame | None = None,
    psis_table: pd.DataFrame | None = None,
    joint: Sequence[Check] | Check | None = None,
    corrected_table: pd.DataFrame | None = None,
    corrected_joint: Check | None = None,
    scores: Sequence[Check] = (),
    elsewhere: Sequence[Check] = (),
    further: Sequence[Check] = (),
    soundness: Sequence[Check] = (),
    optimisation: Sequence[Check] = (),
    point_estimate: bool = False,
    note: str = "",
    config: Mapping[str, Any] | None = None,
    tables: Mapping[str, pd.DataFrame] | None = None,
    seconds: Mapping[str, float] | None = None,
) -> Verdict:
    """Apply the rules.

    Args:
        khat: the check of `check_khat`.
        baseline_table: the frame of `compare` against a baseline; used only if the baseline passed its gates.
        gates: the checks of `baseline_gates` for that baseline; none at all count as not passed.
        pool_table: the frame of `compare_with_pool`, given only where the pool's weights are reliable; used when there
            is no baseline that passed its gates.
        psis_table: the frame of `compare_with_psis`; used when there is neither, and emptied of its figures unless
            k-hat passed, for they would come from unreliable weights.
        joint: the check of `check_joint`, `check_joint_with_pool` or `check_joint_with_psis`, whichever the reference
            used is, and others of the joint distribution against it; None for a single parameter.
        corrected_table: the frame of `compare` or `compare_with_pool` with PSIS weights; where it fails, importance
            weighting is no remedy and the verdict is "reject" instead of "correct"; unless it passes, nothing is
            promised of importance weighting.
        corrected_joint: the check of `check_joint` with PSIS weights.
        scores: the checks of `check_scores`. Without a baseline and a pool they can take a "trust" away, and speak for
            a fit whose weights are unreliable.
        elsewhere: other checks that can take a "trust" away, such as `other starts` of `check_others`, or `classifier`.
        further: evidence that decides nothing.
        soundness: checks of the draws themselves, `check_finite` and `check_spread`; any failure rejects.
        optimisation: checks of the optimiser, such as `check_status` and `check_stationarity`; any failure rejects,
            and one that could not be measured prevents "trust" unless a baseline vouches for the result. Empty for a
            fit that has no optimiser.
        point_estimate: whether the guide is a point estimate, which has no uncertainty to trust.
        note: what the fit says went wrong.
        config: what was checked; the limits and the versions are added.
        tables: further tables of evidence, by name.
        seconds: spent on each check.

    Returns:
        The verdict.
    """
    joints = (joint,) if isinstance(joint, Check) else tuple(joint or ())
    reference, table = _reference(khat, gates, baseline_table, pool_table, psis_table, scores)
    moments, why_not = _moments(table, reference, joints, khat, soundness)
    if why_not and table is not None:
        table = unmeasured_table([str(label) for label in table.index])
    state = _state(scores if reference == "scores" else moments)
    repaired = partial(_corrected_state, corrected_table, corrected_joint, reference)
    said, vetoing = _by_rules((reference, state, _khat_state(khat)), repaired, scores, elsewhere)

    unsound = [check for check in soundness if check.passed is not True]
    unknown = [check for check in optimisation if check.passed is None]
    guide = (config or {}).get("guide")
    if point_estimate:
        said = "reject", _about_point(note, guide)
    elif unsound:
        said = "reject", _capital("; ".join(f"{check.detail}; {check.advice}" for check in unsound)) + "."
    elif broken := [check for check in optimisation if check.passed is False]:
        said = _about_broken(broken, note, agrees=_agrees_anyhow(broken, reference, state, said))
    elif said[0] == "trust" and unknown and reference != "baseline":
        said = "correct", ""
    verdict, remedy = said

    reasons = [*about_gates(gates, baseline_table is not None)]
    if reference == "scores":
        reasons += [about_scores(scores, (tables or {}).get("scores"))]
    elif not why_not:
        reasons += [about_moments(table, reference, elsewhere=elsewhere, guide=str(guide)), *map(about_joint, joints)]
        reasons += [about_constants(table)] if reference in ("pool", "psis") else []
    reasons += [_capital(failure(vetoing)) + "."] if vetoing is not None else []
    reasons += [about_khat(khat, reference), remedy, _about_unknown(unknown) if verdict != "trust" else ""]
    return Verdict(
        verdict,
        (*soundness, *optimisation, *gates, *moments, khat, *scores, *elsewhere, *further),
        pd.DataFrame() if table is None else table,
        khat.value,
        tuple(sentence for sentence in reasons if sentence),
        reference,
        {**_settings(khat), **(config or {})},
        tables or {},
        dict(seconds or {}),
    )


def _by_rules(
    case: tuple[str, str, str], repaired: Callable[[], str], scores: Sequence[Check], elsewhere: Sequence[Check]
) -> tuple[Said, Check | None]:
    """What the table of rules and its exceptions say of (reference, moments, k-hat), and the check that vetoed."""
    reference, state, _ = case
    said = RULES.get(case, ("reject", OTHERWISE[reference]))
    if reference in ("baseline", "pool") and state == "wrong" and said[0] == "correct":
        return UNREPAIRED.get(repaired(), said), None
    if said[0] != "trust":
        return said, None
    vetoing = _veto(reference, (*elsewhere, *scores))
    if vetoing is not None:
        return VETOES[reference, vetoing.name], vetoing
    alone = reference == "psis" and not _vouched(scores, elsewhere)
    return (NOBODY_VOUCHES if alone else said), None


def _agrees_anyhow(broken: Sequence[Check], reference: str, state: str, said: Said) -> bool:
    """Whether a reference vouches for draws of an optimisation that was still improving."""
    return (
        state == "right"
        and said[0] in ("trust", "correct")
        and reference in ("baseline", "pool")
        and all(check.name == "stationarity" for check in broken)
    )


def _reference(
    khat: Check,
    gates: Sequence[Check],
    baseline: pd.DataFrame | None,
    pool: pd.DataFrame | None,
    psis: pd.DataFrame | None,
    scores: Sequence[Check],
) -> tuple[str, pd.DataFrame | None]:
    """What the draws are held against, and the table of it."""
    if baseline is not None and gates_passed(gates):
        return "baseline", baseline
    if pool is not None:
        return "pool", pool
    measured = bool(scores) and not any(math.isnan(check.value) for check in scores)
    weighable = khat.passed is True or too_near(khat)
    return ("psis" if weighable or not measured else "scores"), psis


def _vouched(scores: Sequence[Check], elsewhere: Sequence[Check]) -> bool:
    """Whether anything but its own weights speaks for a fit: other starts, or the scores where none were tried."""
    others = next((check for check in elsewhere if check.name == "other starts"), None)
    if others is not None and others.passed is True:
        return True
    tried = any(check.name.startswith("pooled") for check in elsewhere)
    return not tried and bool(scores) and all(check.passed is True for check in scores)


def _veto(reference: str, heard: Sequence[Check]) -> Check | None:
    """The check that takes a "trust" away."""
    return next((check for check in heard if check.passed is False and (reference, check.name) in VETOES), None)


def _moments(
    table: pd.DataFrame | None, reference: str, joint: Sequence[Check], khat: Check, soundness: Sequence[Check]
) -> tuple[tuple[Check, ...], str]:
    """Marginal and joint checks, and why they could not be measured."""
    why_not = ""
    if table is None:
        why_not = "there is nothing to compare the draws with"
    elif any(check.passed is not True for check in soundness if check.name == "finite draws"):
        why_not = "the draws are not finite"
    elif reference == "psis" and too_near(khat):
        why_not = "whether the importance weights are reliable is too near the limit to tell"
    elif reference == "scores" or (reference == "psis" and khat.passed is not True):
        why_not = "the importance weights are unreliable"
    if why_not or table is None:
        return (*unmeasured_moments(why_not), unmeasured_joint(why_not)), why_not
    return (*moment_checks(table, reference), *joint), ""


def _state(checks: Sequence[Check]) -> str:
    if any(check.passed is False for check in checks):
        return "wrong"
    return "right" if all(check.passed is True for check in checks) else "unclear"


def _khat_state(khat: Check) -> str:
    if khat.passed is None:
        return "near" if too_near(khat) else "unknown"
    return "good" if khat.passed else "bad"


def _corrected_state(table: pd.DataFrame | None, joint: Check | None, reference: str) -> str:
    if table is None:
        return "unclear"
    return _state((*moment_checks(table, reference), *([joint] if joint else [])))


def _about_broken(broken: Sequence[Check], note: str, *, agrees: bool) -> Said:
    said = f" ({note})" if note else ""
    arrived = f"The optimisation had not arrived{said}: {'; '.join(map(failure, broken))}."
    return (AGREES_ANYHOW[0], f"{arrived} {AGREES_ANYHOW[1]}") if agrees else ("reject", arrived)


def _about_unknown(unknown: Sequence[Check]) -> str:
    return f"The optimisation could not be judged ({unknown[0].detail}): {unknown[0].advice}." if unknown else ""


def _about_point(note: str, guide: str | None) -> str:
    if guide == "laplace":
        said = f" ({note})" if note else ""
        return (
            f"The Laplace approximation failed{said}, which leaves a point estimate without uncertainty: use full_rank."
        )
    said = f" {_capital(note)}." if note else ""
    return f"The guide is a point estimate: it has no uncertainty.{said} Use laplace or full_rank."


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _settings(khat: Check) -> dict[str, Any]:
    return {
        "limits": {**{moment.column: moment.limit for moment in MOMENTS}, "joint": JOINT_LIMIT, "khat": khat.limit},
        "versions": {
            name: version_of(name) or "unknown" for name in ("ppl-models", "arviz-stats", "numpy", "scipy", "xarray")
        },
    }
