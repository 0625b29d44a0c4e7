"""The sentences of a verdict."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from ppl_models.checks import Check
from ppl_models.diagnostics.gates import gates_passed
from ppl_models.diagnostics.khat import too_near
from ppl_models.diagnostics.moments import MOMENTS, REFERENCES, Judged, Moment, describe, judge

CORRELATED = "keeps correlations (full_rank) or "
KEEP_CORRELATIONS = ("full_rank", "structured", "mixture", "pathfinder", "laplace", "iaf", "realnvp", "neural_spline")
"""Guides that need not be told to keep correlations."""


def about_gates(gates: Sequence[Check], has_baseline: bool) -> list[str]:
    """What the baseline's own gates leave of it."""
    if not has_baseline:
        return []
    if gates_passed(gates):
        single = any("one chain" in gate.detail for gate in gates)
        return ["The baseline is a single chain: it cannot show a mode that this chain missed."] if single else []
    failed = [f"{gate.name} {gate.measured}" for gate in gates if gate.passed is not True]
    found = ", ".join(failed) if failed else "none were checked"
    return [f"The baseline did not pass its own gates ({found}), so it was set aside and the fit is judged without it."]


def about_khat(khat: Check, reference: str) -> str:
    """Whether the importance weights can be used, and what it means if not."""
    if math.isnan(khat.value):
        return f"k-hat could not be measured: {khat.detail}."
    value = "infinite" if math.isinf(khat.value) else khat.measured
    if too_near(khat):
        return f"k-hat is {value}, too near its limit of {khat.limit:.2f} to tell."
    if khat.passed:
        return f"k-hat is {value}, within its limit of {khat.limit:.2f}."
    sentence = f"k-hat is {value}, beyond its limit of {khat.limit:.2f}"
    if reference in ("baseline", "pool"):
        return f"{sentence}."
    return (
        f"{sentence}: the guide misses a part of the posterior that matters, most likely its tails or its width; "
        "which parameter cannot be said without a baseline."
    )


def about_joint(joint: Check) -> str:
    """Which combination of parameters is wrong."""
    if joint.name != "joint" or joint.passed is True:
        return ""
    if joint.passed is None:
        return "Whether the parameters vary together as they should cannot be resolved with so few draws."
    return f"The parameters do not vary together as they should: {joint.detail}; {joint.advice}."


def about_moments(
    table: pd.DataFrame | None, reference: str, *, elsewhere: Sequence[Check] = (), guide: str = ""
) -> str:
    """What is right, and the worst parameter of what is not; no advice for a shape where other starts failed."""
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
    missed = any(check.name == "other starts" and check.passed is False for check in elsewhere)
    advice = "use a guide with several modes (mixture), or MCMC" if missed else plain[0].advice if plain else ""
    if guide.startswith(KEEP_CORRELATIONS):
        advice = advice.replace(CORRELATED, "")
    sentence = "; ".join(parts) + (f": {advice}" if plain else "")
    if unclear:
        names = ", ".join(f"the {moment.name} of `{_worst_name(table, judged[moment])}`" for moment in unclear)
        sentence += f"{'; ' if sentence else ''}{names} cannot be resolved with so few draws"
    return sentence[0].upper() + sentence[1:] + "."


def about_scores(scores: Sequence[Check], table: pd.DataFrame | None) -> str:
    """What the gradients of the log density say of means and sds; `table` is that of `score_moments`."""
    wrong = [check for check in scores if check.passed is False]
    if not wrong:
        return "" if any(check.passed is None for check in scores) else "Means and sds agree with the gradients."
    right = [f"{_scored(check).name}s" for check in scores if check.passed is True]
    parts = [f"the {' and '.join(right)} are right"] if right else []
    parts += [_worst_score(check, table) for check in wrong]
    sentence = "; ".join(parts)
    return f"{sentence[0].upper()}{sentence[1:]}, by the gradients of the log density: {wrong[0].advice}."


def _scored(check: Check) -> Moment:
    return next(moment for moment in MOMENTS if check.name == f"score {moment.name}")


def _worst_score(check: Check, table: pd.DataFrame | None) -> str:
    moment = _scored(check)
    if table is None or moment.column not in table:
        return f"the {moment.name} is wrong, {check.detail}"
    values = table[moment.column].to_numpy(dtype=float)
    place = int(np.nanargmin(np.abs(np.abs(values) - check.value)))  # the one that the check has found the worst
    return f"the {moment.name} of `{table.index[place]}` is {describe(moment, float(values[place]))}"


def about_constants(table: pd.DataFrame | None) -> str:
    """Without a baseline, a constant may be a latent that the guide has collapsed to a point."""
    if table is None:
        return ""
    constants = [str(name) for name in table.index[np.isnan(table[MOMENTS[0].column].to_numpy(dtype=float))]]
    named = ", ".join(f"`{name}`" for name in constants[:3]) + (", …" if len(constants) > 3 else "")
    return f"{named} did not vary among the draws and could not be judged." if len(constants) else ""


def failure(check: Check) -> str:
    """A failed check with its evidence and its remedy."""
    return ", ".join(part for part in (f"{check.name} {check.measured}", check.detail, check.advice) if part)


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
