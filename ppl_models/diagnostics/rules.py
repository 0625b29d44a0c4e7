"""The rules by which checks become a verdict."""

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import pandas as pd

from ppl_models.diagnostics.check import Check
from ppl_models.diagnostics.gates import gates_passed
from ppl_models.diagnostics.moments import MOMENTS, REFERENCES, Judged, Moment, describe, judge, moment_checks
from ppl_models.diagnostics.verdict import Verdict

# reference, moments within limits, k-hat within its limit -> verdict, what to do. What could not be measured is not
# within its limit. Before any of these: a failed optimisation or a point estimate is rejected.
RULES = {
    ("baseline", True, True): ("trust", "Use the fit as it is."),
    ("baseline", True, False): (
        "correct",
        "The marginals match the baseline; the joint tails do not, so do not importance-weight: "
        "start MCMC from the fit for anything but marginals.",
    ),
    ("baseline", False, True): ("correct", "Correct the draws by PSIS."),
    ("baseline", False, False): ("reject", "Use a richer guide, another parametrisation, or the baseline itself."),
    ("psis", True, True): (
        "trust",
        "No diagnostic of the fit's own draws can see a mode that the guide missed; a baseline can.",
    ),
    ("psis", False, True): (
        "correct",
        "Correct the draws by PSIS. Not even then is a mode that the guide missed seen; a baseline can see it.",
    ),
    ("psis", True, False): (
        "reject",
        "The fit cannot vouch for itself: use a richer guide, or check it with a baseline.",
    ),
    ("psis", False, False): (
        "reject",
        "The fit cannot vouch for itself: use a richer guide, or check it with a baseline.",
    ),
}


def decide(
    khat: Check,
    *,
    baseline_table: pd.DataFrame | None = None,
    gates: Sequence[Check] = (),
    psis_table: pd.DataFrame | None = None,
    corrected_table: pd.DataFrame | None = None,
    optimisation: Sequence[Check] = (),
    point_estimate: bool = False,
    config: Mapping[str, Any] | None = None,
) -> Verdict:
    """Apply the rules.

    Args:
        khat: the check of `check_khat`.
        baseline_table: the frame of `compare` against a baseline; used only if the baseline passed its gates.
        gates: the checks of `baseline_gates` for that baseline; none at all count as not passed.
        psis_table: the frame of `compare_with_psis`; used when there is no baseline that passed its gates.
        corrected_table: the frame of `compare` with PSIS weights against the baseline; where it still fails,
            importance weighting is no remedy and the verdict is "reject" instead of "correct".
        optimisation: checks of the optimiser, such as `check_status` and `check_stationarity`; any failure rejects,
            and one that could not be measured prevents "trust". Empty for a fit that has no optimiser.
        point_estimate: whether the guide is a point estimate, which has no uncertainty to trust.
        config: what was checked; the limits and the versions are added.

    Returns:
        The verdict.
    """
    has_baseline = baseline_table is not None
    reference = "baseline" if has_baseline and gates_passed(gates) else "psis"
    table = baseline_table if reference == "baseline" else psis_table
    moments = (
        (Check("moments", float("nan"), float("nan"), None, "", detail="there is nothing to compare the draws with"),)
        if table is None
        else moment_checks(table, reference)
    )
    checks = (*optimisation, *gates, *moments, khat)
    moments_passed = all(check.passed is True for check in moments)
    verdict, remedy = RULES[reference, moments_passed, khat.passed is True]
    reasons = [_about_gates(gates)] if has_baseline and reference == "psis" else []
    reasons += [_about_moments(table, reference), _about_constants(table, reference), _about_khat(khat)]

    broken = [check for check in optimisation if check.passed is False]
    unknown = [check for check in optimisation if check.passed is None]
    if point_estimate:
        verdict, remedy = "reject", "The guide is a point estimate: it has no uncertainty. Use laplace or full_rank."
    elif broken:
        verdict, remedy = "reject", "The optimisation had not arrived: " + "; ".join(map(_failure, broken)) + "."
    elif verdict == "correct" and not moments_passed and _still_fails(corrected_table, reference):
        verdict = "reject"
        remedy = "Importance weighting does not repair it, as when the guide misses a mode: use another guide or MCMC."
    elif verdict == "trust" and unknown:
        verdict, remedy = "correct", f"The optimisation could not be judged ({unknown[0].detail}): train longer."
    sentences = tuple(sentence for sentence in (*reasons, remedy) if sentence)
    frame = pd.DataFrame() if table is None else table
    return Verdict(verdict, checks, frame, khat.value, sentences, reference, {**_settings(khat), **(config or {})})


def _still_fails(corrected_table: pd.DataFrame | None, reference: str) -> bool:
    if corrected_table is None or reference != "baseline":
        return False
    return any(check.passed is False for check in moment_checks(corrected_table, reference))


def _failure(check: Check) -> str:
    return ", ".join(part for part in (f"{check.name} {check.measured}", check.detail, check.advice) if part)


def _about_gates(gates: Sequence[Check]) -> str:
    failed = [f"{gate.name} {gate.measured}" for gate in gates if gate.passed is not True]
    found = ", ".join(failed) if failed else "none were checked"
    return f"The baseline did not pass its own gates ({found}), so it was set aside and the fit is judged without it."


def _about_khat(khat: Check) -> str:
    if khat.passed is None:
        return f"k-hat could not be measured: {khat.detail}."
    relation = "within" if khat.passed else "beyond"
    return f"k-hat is {khat.measured}, {relation} its limit of {khat.limit:.2f}."


def _about_moments(table: pd.DataFrame | None, reference: str) -> str:
    """What is right, and the worst parameter of what is not."""
    if table is None:
        return ""
    judged = {moment: judge(table, moment) for moment in MOMENTS}
    wrong = [moment for moment in MOMENTS if judged[moment].failed.any()]
    unclear = [moment for moment in MOMENTS if moment not in wrong and judged[moment].unresolved.any()]
    if not any(found.worst is not None for found in judged.values()):
        return "No parameter varies, so no moment could be compared."
    if not (wrong or unclear):
        return f"Every marginal agrees with {REFERENCES[reference]} in mean, sd, tails and shape."
    # a wrong mean or sd moves the quantiles too: say it once
    plain = [moment for moment in wrong if moment.name in ("mean", "sd")] or wrong
    right = [f"{moment.name}s" for moment in MOMENTS[:2] if moment not in wrong and moment not in unclear]
    parts = [f"the {' and '.join(right)} are right"] if right and wrong else []
    parts += [_worst_case(table, moment, judged[moment]) for moment in plain]
    sentence = "; ".join(parts) + (f": {plain[0].advice}" if plain else "")
    if unclear:
        names = ", ".join(f"the {moment.name} of `{_worst_name(table, judged[moment])}`" for moment in unclear)
        sentence += f"{'; ' if sentence else ''}{names} cannot be resolved with so few draws: draw more"
    return sentence[0].upper() + sentence[1:] + "."


def _worst_case(table: pd.DataFrame, moment: Moment, judged: Judged) -> str:
    worst = judged.worst
    assert worst is not None  # one parameter at least failed
    figure = "Wasserstein distance" if moment.name == "Wasserstein" else moment.name
    others = int(judged.failed.sum()) - 1
    more = f" ({others} more beyond the limit)" if others else ""
    return f"the {figure} of `{table.index[worst]}` is {describe(moment, float(judged.values[worst]))}{more}"


def _worst_name(table: pd.DataFrame, judged: Judged) -> str:
    worst = judged.worst
    assert worst is not None  # one parameter at least is unresolved
    return str(table.index[worst])


def _about_constants(table: pd.DataFrame | None, reference: str) -> str:
    """Without a baseline, a constant may be a latent that the guide has collapsed to a point."""
    if table is None or reference != "psis":
        return ""
    constants = [str(name) for name in table.index[np.isnan(table[MOMENTS[0].column].to_numpy(dtype=float))]]
    named = ", ".join(f"`{name}`" for name in constants[:3]) + (", …" if len(constants) > 3 else "")
    return f"{named} did not vary among the draws and could not be judged." if len(constants) else ""


def _settings(khat: Check) -> dict[str, Any]:
    return {
        "limits": {**{moment.column: moment.limit for moment in MOMENTS}, "khat": khat.limit},
        "versions": {name: _version(name) for name in ("ppl-models", "arviz-stats", "numpy", "scipy", "xarray")},
    }


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "unknown"
