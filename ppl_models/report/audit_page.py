"""What the page of an audit says, as plain values for the template."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ppl_models.checks import Check
from ppl_models.diagnostics import RateDistortion
from ppl_models.report.argument import Step
from ppl_models.report.audit_plates import data_plates, latent_plates, posterior_plates
from ppl_models.report.page import MEANINGS, step_content
from ppl_models.versions import versions
from ppl_models.workflow.audit.audit_result import Audit

VETO, WEIGHT, NOTHING = "verdict", "weights", "no"
DECIDES = {
    VETO: "must pass for a “trust”",
    WEIGHT: "a typical row beyond its limit rejects unless the gap is small",
    NOTHING: "evidence beside the verdict on q(z | x)",
}
COLUMNS = {
    "log_evidence": "log p(x)",
    "elbo": "ELBO",
    "best_elbo": "best ELBO",
    "inference_gap": "gap",
    "amortisation_gap": "amortisation",
    "approximation_gap": "approximation",
    "khat": "k-hat",
    "mean_error_sd": "worst mean (sd)",
}
ROLES = {
    "active units": VETO,
    "k-hat by datum": WEIGHT,
    "amortisation gap": NOTHING,
    "approximation gap": NOTHING,
}


def audit_content(
    audit: Audit, *, title: str, name: str, cite: str, others: Mapping[str, RateDistortion]
) -> dict[str, Any]:
    """Everything that the template shows; `write_audit` documents the arguments."""
    failed = any(check.passed is False for check in audit.model_checks)
    unclear = any(check.passed is None for check in audit.model_checks)
    curve = {audit.fit.guide_name: audit.point, **others}
    sections = (
        ("What q(z | x) is worth", posterior_plates(audit)),
        ("The latent space", latent_plates(audit, curve)),
        ("The data", data_plates(audit)),
    )
    return {
        "title": title,
        "name": name,
        "cite": cite,
        "verdict": audit.verdict,
        "meaning": MEANINGS.get(audit.verdict, "").replace("fit", "encoder"),
        "reasons": list(audit.reasons),
        "model_state": "reject" if failed else "correct" if unclear else "trust",
        "model_line": audit.summary[1].capitalize(),
        "summary": audit.facts(),
        "argument": [step_content(step) for step in _argument(audit)],
        "decides": list(DECIDES.items()),
        "sections": [{"title": heading, "plates": plates} for heading, plates in sections if plates],
        "columns": [shown for column, shown in COLUMNS.items() if column in audit.table],
        "rows": _rows(audit),
        "units": _units(audit),
        "stages": [(stage, f"{spent:.1f} s") for stage, spent in audit.seconds.items()],
        "made": [(key.replace("_", " "), str(value)) for key, value in audit.config.items() if key != "versions"],
        "versions": list(versions().items()),
    }


def _argument(audit: Audit) -> list[Step]:
    def step(title: str, note: str, checks: Sequence[Check], role: str | None = None) -> Step:
        roles = tuple(role or ROLES.get(check.name, VETO) for check in checks)
        return Step(title, note, tuple(checks), roles)

    return [
        step(
            "Is q(z | x) the posterior at these rows?",
            "Held against the exact posteriors of single rows, the decoder as it is, and against data of the model's "
            "own making.",
            audit.inference_checks,
        ),
        step(
            "Is the generative model any good?",
            "Whether the prior is where the data are, features are where the others predict them, and generated rows "
            "are like the data.",
            audit.model_checks,
            NOTHING,
        ),
        step("May the audit itself be believed?", "The health of its chains and bounds.", audit.health, NOTHING),
    ]


def _rows(audit: Audit) -> list[dict[str, Any]]:
    table = audit.table
    order = "inference_gap" if "inference_gap" in table else "khat"
    return [
        {"label": str(label), "cells": [_cell(row, column) for column in COLUMNS if column in table]}
        for label, row in table.sort_values(order, ascending=False).iterrows()
    ]


def _cell(row: Any, column: str) -> str:
    value, error = float(row[column]), float(row.get(f"{column}_se", math.nan))
    return f"{value:.2f}" if math.isnan(error) else f"{value:.3f} ± {error:.2g}"


def _units(audit: Audit) -> list[dict[str, Any]]:
    aggregated = audit.aggregated.table
    rows = []
    for label, row in audit.units.table.to_dict("index").items():
        place = aggregated.index.get_loc(label)
        mean, sd = (float(aggregated[column].to_numpy()[place]) for column in ("mean", "sd"))
        cells = [
            f"{row['variance']:.4f} ± {row['variance_se']:.2g}",
            f"{row['kl']:.3f} ± {row['kl_se']:.2g}",
            f"{mean:+.3f}",
            f"{sd:.3f}",
        ]
        rows.append({"label": str(label), "active": "yes" if row["active"] else "no", "cells": cells})
    return rows
