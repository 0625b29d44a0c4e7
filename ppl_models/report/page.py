"""What the page says, as plain values for the template."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import xarray as xr

from ppl_models.diagnostics import Check, gates_passed
from ppl_models.diagnostics.moments import REFERENCES
from ppl_models.report.argument import DECIDES, Step, argument
from ppl_models.report.evidence import Evidence
from ppl_models.report.next_steps import next_steps
from ppl_models.report.parameters import marginal_rows, score_rows
from ppl_models.report.plates import plates
from ppl_models.report.rule import rule_of
from ppl_models.report.samples import POOL, PSIS, SCORES
from ppl_models.report.tables import elbo_text, limit_text, value_text, worst_mean, worst_sd_ratio
from ppl_models.versions import versions
from ppl_models.workflow.baseline import tree_gates

MEANINGS = {
    "trust": "use the fit as it is",
    "correct": "usable after the correction named",
    "reject": "do not use the fit",
}
SHOWN = {
    POOL: "The figures show the pool that the draws were held against: its draws, resampled by their weights.",
    SCORES: "The figures show what the gradients ask for: a normal, in unconstrained space, of the score-corrected "
    "mean and covariance. It is no posterior: of the shape it knows nothing.",
    PSIS: "The figures show the guide's own draws, resampled by their smoothed importance weights.",
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
    rows, scores = marginal_rows(evidence), score_rows(evidence)
    rule = rule_of(verdict, point=fit.point)
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
        "rule": {"steps": list(rule.steps), "rows": list(rule.rows), "replaced": bool(rule.override)},
        "next": list(next_steps(fit, verdict, rule)),
        "argument": [step_content(step) for step in argument(verdict)],
        "decides": list(DECIDES.items()),
        "parameters": rows,
        "num_parameters": len(verdict.table),
        "scores": scores,
        "num_scores": len(verdict.tables.get("scores", ())),
        "shown": _shown(evidence),
        "costs": _costs(evidence),
        "plates": plates(evidence),
        "made": _made(evidence),
    }


def step_content(step: Step) -> dict[str, Any]:
    """A step of the argument for the template."""
    checks = [_check(check, decides) for check, decides in zip(step.checks, step.decides, strict=True)]
    return {"title": step.title, "note": step.note, "checks": checks}


def _shown(evidence: Evidence) -> str:
    """What the last draws of each figure are, where they are not simply a guide's or a sampler's."""
    return SHOWN.get(evidence.reference.kind, "")


def _check(check: Check, decides: str = "") -> dict[str, str]:
    return {
        "decides": decides,
        "mark": MARKS[check.mark],
        "state": {True: "pass", False: "fail", None: "open"}[check.passed],
        "name": check.name,
        "value": value_text(check),
        "limit": limit_text(check),
        "detail": check.detail,
        "advice": "" if check.passed else check.advice,
    }


def _costs(evidence: Evidence) -> list[tuple[str, str]]:
    """Seconds of each check, dearest first, and beside them those of the fit."""
    spent = evidence.verdict.seconds
    if not spent:
        return []
    rows = sorted(spent.items(), key=lambda item: -item[1])
    return [
        *((name, f"{seconds:.2f} s") for name, seconds in rows),
        ("all checks", f"{sum(spent.values()):.2f} s"),
        ("the fit", f"{evidence.fit.seconds:.2f} s"),
    ]


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
