"""The rules by which checks become a verdict."""

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pandas as pd

from ppl_models.diagnostics.check import Check
from ppl_models.diagnostics.gates import gates_passed
from ppl_models.diagnostics.joint import JOINT_LIMIT, unmeasured_joint
from ppl_models.diagnostics.khat import too_near
from ppl_models.diagnostics.moments import MOMENTS, moment_checks, unmeasured_moments, unmeasured_table
from ppl_models.diagnostics.reasons import about_constants, about_gates, about_joint, about_khat, about_moments, failure
from ppl_models.diagnostics.verdict import Verdict

PSIS = "Correct the draws by PSIS (ppl_models.diagnostics.psis_weights)."
UNSEEN = "a mode that the guide missed"

# reference, moments (of the marginals and the joint check), k-hat -> verdict, what to do. Moments are right, wrong (one
# failed at least) or unclear (the rest); k-hat is good, bad, unknown, or too near its limit to tell. What is not here
# is rejected. Before any of these: failed draws or optimisation and point estimates are rejected.
RULES = {
    ("baseline", "right", "good"): ("trust", "Use the fit as it is."),
    ("baseline", "right", "bad"): (
        "correct",
        "The marginals match the baseline; the joint tails do not, so do not importance-weight: "
        "start MCMC from the fit for anything but marginals.",
    ),
    ("baseline", "right", "unknown"): (
        "correct",
        "The marginals match the baseline; of the joint tails nothing is known, so do not importance-weight.",
    ),
    ("baseline", "right", "near"): (
        "trust",
        "Use the fit as it is, but do not importance-weight it: whether that is safe is too near the limit to tell.",
    ),
    ("baseline", "unclear", "good"): ("correct", "The baseline is too short to tell: sample it longer (draws=)."),
    ("baseline", "wrong", "good"): ("correct", PSIS),
    ("psis", "right", "good"): (
        "trust",
        f"No diagnostic of the fit's own draws can see {UNSEEN}; a baseline can.",
    ),
    ("psis", "unclear", "good"): ("correct", "Too few draws to tell: raise num_draws."),
    ("psis", "unclear", "near"): ("correct", "Judge it against a baseline, or raise num_draws."),
    ("psis", "wrong", "good"): ("correct", f"{PSIS} Not even then is {UNSEEN} seen; a baseline can see it."),
}
OTHERWISE = {
    "baseline": "Use a richer guide, another parametrisation, or the baseline itself.",
    "psis": "The fit cannot vouch for itself: use a richer guide, or check it with a baseline.",
}
# instead of PSIS, where the draws so corrected do not agree with the baseline either
UNREPAIRED = {
    "wrong": (
        "reject",
        "Importance weighting does not repair it, as when the guide misses a mode: use another guide or MCMC.",
    ),
    "unclear": (
        "correct",
        "Weighting the draws by PSIS goes wrong nowhere, but whether it repairs everything is not resolved: raise "
        "num_draws and sample the baseline longer (draws=) before you rely on it, or use a richer guide.",
    ),
}


def decide(
    khat: Check,
    *,
    baseline_table: pd.DataFrame | None = None,
    gates: Sequence[Check] = (),
    psis_table: pd.DataFrame | None = None,
    joint: Check | None = None,
    corrected_table: pd.DataFrame | None = None,
    corrected_joint: Check | None = None,
    soundness: Sequence[Check] = (),
    optimisation: Sequence[Check] = (),
    point_estimate: bool = False,
    note: str = "",
    config: Mapping[str, Any] | None = None,
) -> Verdict:
    """Apply the rules.

    Args:
        khat: the check of `check_khat`.
        baseline_table: the frame of `compare` against a baseline; used only if the baseline passed its gates.
        gates: the checks of `baseline_gates` for that baseline; none at all count as not passed.
        psis_table: the frame of `compare_with_psis`; used when there is no baseline that passed its gates, and emptied
            of its figures unless k-hat passed, for they would come from unreliable weights.
        joint: the check of `check_joint`, or of `check_joint_with_psis` where `psis_table` is used; None for a single
            parameter.
        corrected_table: the frame of `compare` with PSIS weights against the baseline; where it fails,
            importance weighting is no remedy and the verdict is "reject" instead of "correct"; unless it passes,
            nothing is promised of importance weighting.
        corrected_joint: the check of `check_joint` with PSIS weights against the baseline.
        soundness: checks of the draws themselves, `check_finite` and `check_spread`; any failure rejects.
        optimisation: checks of the optimiser, such as `check_status` and `check_stationarity`; any failure rejects,
            and one that could not be measured prevents "trust" unless a baseline vouches for the result. Empty for a
            fit that has no optimiser.
        point_estimate: whether the guide is a point estimate, which has no uncertainty to trust.
        note: what the fit says went wrong.
        config: what was checked; the limits and the versions are added.

    Returns:
        The verdict.
    """
    has_baseline = baseline_table is not None
    reference = "baseline" if has_baseline and gates_passed(gates) else "psis"
    table = baseline_table if reference == "baseline" else psis_table
    moments, why_not = _moments(table, reference, joint, khat, soundness)
    if why_not and table is not None:
        table = unmeasured_table([str(label) for label in table.index])
    state = _state(moments)
    verdict, remedy = RULES.get((reference, state, _khat_state(khat)), ("reject", OTHERWISE[reference]))
    if reference == "baseline" and state == "wrong" and verdict == "correct":
        corrected = _corrected_state(corrected_table, corrected_joint)
        verdict, remedy = UNREPAIRED.get(corrected, (verdict, remedy))

    unsound = [check for check in soundness if check.passed is not True]
    broken = [check for check in optimisation if check.passed is False]
    unknown = [check for check in optimisation if check.passed is None]
    doubt = f"The optimisation could not be judged ({unknown[0].detail}): {unknown[0].advice}." if unknown else ""
    if point_estimate:
        verdict, remedy = "reject", _about_point(note, (config or {}).get("guide"))
    elif unsound:
        verdict, remedy = "reject", _capital("; ".join(f"{check.detail}; {check.advice}" for check in unsound)) + "."
    elif broken:
        said = f" ({note})" if note else ""
        verdict, remedy = "reject", f"The optimisation had not arrived{said}: {'; '.join(map(failure, broken))}."
    elif verdict == "trust" and unknown and reference == "psis":
        verdict, remedy = "correct", ""
    reasons = [*about_gates(gates, has_baseline)]
    if not why_not:
        reasons += [about_moments(table, reference), about_joint(moments[-1])]
        reasons += [about_constants(table)] if reference == "psis" else []
    reasons += [about_khat(khat, reference), remedy, doubt if verdict != "trust" else ""]
    return Verdict(
        verdict,
        (*soundness, *optimisation, *gates, *moments, khat),
        pd.DataFrame() if table is None else table,
        khat.value,
        tuple(sentence for sentence in reasons if sentence),
        reference,
        {**_settings(khat), **(config or {})},
    )


def _moments(
    table: pd.DataFrame | None, reference: str, joint: Check | None, khat: Check, soundness: Sequence[Check]
) -> tuple[tuple[Check, ...], str]:
    """Marginal and joint checks, and why they could not be measured."""
    why_not = ""
    if table is None:
        why_not = "there is nothing to compare the draws with"
    elif any(check.passed is not True for check in soundness if check.name == "finite draws"):
        why_not = "the draws are not finite"
    elif reference == "psis" and too_near(khat):
        why_not = "whether the importance weights are reliable is too near the limit to tell"
    elif reference == "psis" and khat.passed is not True:
        why_not = "the importance weights are unreliable"
    if why_not or table is None:
        return (*unmeasured_moments(why_not), unmeasured_joint(why_not)), why_not
    return (*moment_checks(table, reference), *([joint] if joint else [])), ""


def _state(checks: Sequence[Check]) -> str:
    if any(check.passed is False for check in checks):
        return "wrong"
    return "right" if all(check.passed is True for check in checks) else "unclear"


def _khat_state(khat: Check) -> str:
    if khat.passed is None:
        return "near" if too_near(khat) else "unknown"
    return "good" if khat.passed else "bad"


def _corrected_state(table: pd.DataFrame | None, joint: Check | None) -> str:
    if table is None:
        return "unclear"
    return _state((*moment_checks(table, "baseline"), *([joint] if joint else [])))


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
        "versions": {name: _version(name) for name in ("ppl-models", "arviz-stats", "numpy", "scipy", "xarray")},
    }


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "unknown"
