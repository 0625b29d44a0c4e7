"""What the page says, as plain values for the template."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import xarray as xr

from ppl_models.diagnostics import Check, gates_passed
from ppl_models.diagnostics.moments import MOMENTS, REFERENCES, judge
from ppl_models.report.evidence import Evidence
from ppl_models.report.plates import plates
from ppl_models.report.tables import elbo_text, limit_text, value_text, worst_mean, worst_sd_ratio
from ppl_models.versions import versions
from ppl_models.workflow.baseline import tree_gates

MAX_ROWS = 200
MEANINGS = {
    "trust": "use the fit as it is",
    "correct": "usable after the correction named",
    "reject": "do not use the fit",
}
MARKS = {"pass": "passed", "FAIL": "failed", "?": "not resolved"}


def page_content(
    evidence: Sequence[Evidence],
    *,
    baseline: xr.DataTree | None,
    title: str,
    name: str,
    cite: str,
    seconds: Mapping[str, float],
    failures: Mapping[str, str],
) -> dict[str, Any]:
    """Everything that the template shows; `write_page` documents the arguments."""
    return {
        "title": title,
        "name": name,
        "cite": cite,
        "guides": [_guide(number, one) for number, one in enumerate(evidence, start=1)],
        "failures": list(failures.items()),
        "meanings": list(MEANINGS.items()),
        "baseline": None if baseline is None else _baseline(baseline),
        "stages": [(stage, f"{spent:.1f} s") for stage, spent in seconds.items()],
        "versions": list(versions().items()),
    }


def _guide(number: int, evidence: Evidence) -> dict[str, Any]:
    fit, verdict = evidence.fit, evidence.verdict
    rows = _parameters(evidence)
    return {
        "anchor": f"guide-{number}",
        "name": evidence.name,
        "verdict": verdict.verdict,
        "meaning": MEANINGS.get(verdict.verdict, ""),
        "reasons": list(verdict.reasons),
        "against": REFERENCES[verdict.reference],
        "status": fit.status + (f" ({fit.note})" if fit.note else ""),
        "steps": f"{fit.steps:,}",
        "seconds": f"{fit.seconds:.1f}",
        "elbo": elbo_text(evidence.elbo),
        "khat": f"{verdict.khat:.2f}" if math.isfinite(verdict.khat) else "-",
        "worst_mean": worst_mean(verdict),
        "worst_sd_ratio": worst_sd_ratio(verdict),
        "checks": [_check(check) for check in verdict.checks],
        "parameters": rows[:MAX_ROWS],
        "num_parameters": len(verdict.table),
        "plates": plates(evidence),
        "made": _made(evidence),
    }


def _check(check: Check) -> dict[str, str]:
    return {
        "mark": MARKS[check.mark],
        "state": {True: "pass", False: "fail", None: "open"}[check.passed],
        "name": check.name,
        "value": value_text(check),
        "limit": limit_text(check),
        "detail": check.detail,
        "advice": check.advice,
    }


def _parameters(evidence: Evidence) -> list[dict[str, Any]]:
    """Worst first: mean and sd of the fit, and each error with whether it is beyond its limit."""
    table, own = evidence.verdict.table, evidence.samples[0]
    if table.empty:
        return []
    failed = {moment.column: judge(table, moment).failed for moment in MOMENTS}
    values = {moment.column: table[moment.column].to_numpy(dtype=float) for moment in MOMENTS}
    errors = {moment.column: table[f"{moment.column}_mcse"].to_numpy(dtype=float) for moment in MOMENTS}
    places = {str(label): place for place, label in enumerate(table.index)}
    rows = []
    for label in map(str, evidence.verdict.worst(MAX_ROWS).index):
        draws, place = own.column(label), places[label]
        cells = [
            {
                "text": _error(column, values[column][place], errors[column][place]),
                "failed": bool(failed[column][place]),
            }
            for column in failed
        ]
        rows.append({"label": label, "mean": f"{draws.mean():.4g}", "sd": f"{draws.std(ddof=1):.3g}", "cells": cells})
    return rows


def _error(column: str, value: float, error: float) -> str:
    if math.isnan(value):
        return "-"
    if column == "log_sd_ratio":
        ratio = math.exp(min(value, 700.0))
        return f"{ratio:.2f} ± {ratio * error:.2f}" if math.isfinite(error) else f"{ratio:.2f}"
    sign = "" if column == "wasserstein_sd" else "+"
    return f"{value:{sign}.2f} ± {error:.2f}"


def _baseline(tree: xr.DataTree) -> dict[str, Any]:
    gates = tree_gates(tree)
    attrs, sizes = tree.attrs, tree["posterior"].sizes
    config = _json(attrs.get("config"))
    made = [
        ("kernel", attrs.get("kernel", "")),
        ("draws", f"{sizes['chain']} chains of {sizes['draw']:,} draws after {config.get('warmup', '?')} of warm-up"),
        ("backend", attrs.get("backend", "") + (f" ({note})" if (note := attrs.get("backend_note")) else "")),
        ("compiling", _seconds(attrs.get("compile_seconds"))),
        ("sampling", _seconds(attrs.get("sampling_time"))),
        *((key, str(config[key])) for key in ("target_accept", "seed", "dtype") if key in config),
    ]
    return {
        "checks": [_check(gate) for gate in gates],
        "passed": gates_passed(gates),
        "made": [(key, value) for key, value in made if value],
    }


def _made(evidence: Evidence) -> list[tuple[str, str]]:
    fit, verdict = evidence.fit, evidence.verdict
    config = fit.config
    rows = [
        ("guide", fit.family or fit.guide_name),
        *((key.replace("_", " "), _plain(value)) for key, value in config.items() if key != "versions"),
        ("backend", fit.backend),
        ("seconds", f"{fit.seconds:.2f}"),
        ("steps at the fixed step size", f"{fit.constant_phase[0]:,} to {fit.constant_phase[1]:,}"),
        ("draws checked", f"{len(evidence.log_ratio):,}, seed {verdict.config.get('seed', 0)}"),
    ]
    limits = verdict.config.get("limits", {})
    rows.append(("limits", ", ".join(f"{name} {value:.3g}" for name, value in limits.items())))
    return [(key, value) for key, value in rows if value not in ("", "{}", "None")]


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _seconds(value: Any) -> str:
    return "" if value is None else f"{float(value):.2f} s"


def _json(text: Any) -> dict[str, Any]:
    try:
        found = json.loads(text) if isinstance(text, str) else {}
    except ValueError:  # draws of another library
        return {}
    return found if isinstance(found, dict) else {}
