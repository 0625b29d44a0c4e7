"""The verdict on a fit whose guide was chosen by evidence: on the draws that it gives, corrected or by MCMC."""

import math
from dataclasses import replace

import pandas as pd
import xarray as xr

from ppl_models.diagnostics import Check, Verdict, check_joint, compare, decide, gates_passed, khat_limit
from ppl_models.diagnostics.labelled import labelled_draws
from ppl_models.diagnostics.moments import MOMENTS, unmeasured_table
from ppl_models.workflow.auto.result import AutoFit
from ppl_models.workflow.baseline import tree_gates
from ppl_models.workflow.judging import check_fit
from ppl_models.workflow.sharing import shared_draws

COMPARED = {*(moment.name for moment in MOMENTS), "joint"}
UNSEEN = "No diagnostic of draws can see a mode that all of them missed; a baseline can."
DECISIVE = ("finite draws", "k-hat")
SAID = "No guide passed, so the draws are those of NUTS, which passed the gates of a baseline."
NO_WEIGHTS = "the draws are those of MCMC, which have no weights"


def check_auto(fit: AutoFit, *, baseline: xr.DataTree | None, num_draws: int, seed: int) -> Verdict:
    """Judge what an `AutoFit` gives; `ppl_models.check` documents the arguments."""
    if fit.chains is not None:
        return _check_chains(fit, baseline, num_draws)
    found = check_fit(fit.plain, baseline=baseline, num_draws=num_draws, seed=seed, corrected=fit.passed)
    rung = next(rung for rung in fit.rungs if rung.name == fit.chosen)
    own = tuple(replace(check, name=f"{check.name} (ladder)") for check in rung.checks)
    if found.reference == "baseline":
        return replace(found, checks=(*found.checks, *own))
    decisive = (*DECISIVE, "other starts", *(COMPARED if found.reference == "pool" else ()))
    if fit.passed and not any(check.passed is False for check in found.checks if check.name in decisive):
        said = (
            "The draws are corrected by their importance weights, and other guides' draws agree, those of two runs of "
            "Pathfinder from eight starts each among them."
        )
        if found.reference == "pool":
            return replace(found, verdict="trust", checks=(*found.checks, *own), reasons=(said, UNSEEN))
        # What was compared with the weighted draws were the guide's own, which are not what the fit gives.
        kept = tuple(check for check in found.checks if check.name not in COMPARED)
        table: pd.DataFrame = unmeasured_table([str(label) for label in found.table.index])
        return replace(found, verdict="trust", checks=(*kept, *own), table=table, reasons=(said, UNSEEN))
    if fit.passed:
        return replace(found, checks=(*found.checks, *own))
    said = f"No rung of the ladder passed; the best one, {fit.chosen}: {rung.reason}."
    return replace(found, verdict="reject", checks=(*found.checks, *own), reasons=(said, *found.reasons))


def _check_chains(fit: AutoFit, baseline: xr.DataTree | None, num_draws: int) -> Verdict:
    """Chains are judged by their own gates, and by the baseline where there is one."""
    assert fit.chains is not None
    own, draws = tree_gates(fit.chains), fit.chains["posterior"].to_dataset()
    own = tuple(replace(gate, name=f"{gate.name} (ladder)") for gate in own)
    khat = Check("k-hat", math.nan, khat_limit(num_draws), None, "", detail=NO_WEIGHTS)
    config = {"guide": fit.guide_name, "chosen": fit.chosen, "fit": dict(fit.config)}
    if baseline is not None:
        draws, reference = shared_draws(fit, draws, fit.chains, baseline)
        gates = tree_gates(baseline)
        if gates_passed(gates):
            found = decide(
                khat,
                baseline_table=compare(draws, reference),
                gates=gates,
                joint=check_joint(draws, reference),
                config=config,
            )
            right = all(check.passed is True for check in found.checks if check.name != "k-hat")
            verdict = "trust" if right else found.verdict
            return replace(found, verdict=verdict, checks=(*found.checks, *own), reasons=(SAID, *found.reasons))
    table: pd.DataFrame = unmeasured_table(labelled_draws(draws).labels)
    return Verdict("trust", (*own, khat), table, math.nan, (SAID,), "psis", config)
