"""What all checks together say: trust, correct or reject."""

import html
import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from ppl_models.checks import Check, check_html, check_lines
from ppl_models.diagnostics.moments import MOMENTS, REFERENCES

NUM_ROWS = 5


@dataclass(frozen=True, eq=False)
class Verdict:
    """The judgement of a fit, with its evidence.

    Attributes:
        verdict: "trust" (use the fit), "correct" (usable after the correction that `reasons` names) or "reject".
        checks: every figure that was measured.
        table: one row per scalar parameter, as `compare` gives it; NaN where nothing reliable could be
            measured, empty when there was nothing to compare with.
        khat: the Pareto k-hat (unitless); NaN when it could not be measured.
        reasons: the sentences that a statistician would say, the worst parameters by name.
        reference: what the draws were held against: "baseline", "pool" (the guide's draws and Pathfinder's, weighted
            together), "psis" (the guide's own, weighted), or "scores" (the gradients of the log density).
        config: what was checked, with which limits and versions.
        tables: further tables of evidence; "scores" has the errors by unconstrained parameter that the gradients of the
            log density tell.
        seconds: spent on each check.
    """

    verdict: str
    checks: tuple[Check, ...]
    table: pd.DataFrame
    khat: float
    reasons: tuple[str, ...]
    reference: str
    config: Mapping[str, Any] = field(default_factory=dict)
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)

    def worst(self, num_rows: int = NUM_ROWS) -> pd.DataFrame:
        """The rows that come nearest to their limits or exceed them most, worst first."""
        columns = [moment.column for moment in MOMENTS]
        if self.table.empty:
            return self.table
        share = self.table[columns].abs() / [moment.limit for moment in MOMENTS]
        order = share.max(axis=1).sort_values(ascending=False, kind="stable").index[:num_rows]
        return self.table.loc[order, columns]

    def __str__(self) -> str:
        title = f"verdict: {self.verdict} (against {REFERENCES[self.reference]})"
        lines = [title, *self.reasons, "", *check_lines(self.checks)]
        worst = self.worst().dropna(how="all")
        if not worst.empty:
            lines += ["", worst.to_string(float_format=lambda value: f"{value:.3f}")]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        reasons = "".join(f"<p>{html.escape(reason)}</p>" for reason in self.reasons)
        title = html.escape(f"{self.verdict} (against {REFERENCES[self.reference]})")
        table = self.worst().dropna(how="all")
        worst = "" if table.empty else table.to_html(escape=True, float_format=lambda value: f"{value:.3f}")
        return f"<div><h4>{title}</h4>{reasons}{check_html(self.checks)}{worst}</div>"

    def to_json(self) -> dict[str, Any]:
        """A dict of plain Python types that `json.dumps` takes; NaN and infinities become None."""
        return _plain(
            {
                "verdict": self.verdict,
                "reference": self.reference,
                "khat": self.khat,
                "reasons": self.reasons,
                "checks": [vars(check) for check in self.checks],
                "table": _rows(self.table),
                "tables": {name: _rows(table) for name, table in self.tables.items()},
                "config": self.config,
            }
        )


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{"parameter": name, **row} for name, row in zip(table.index, table.to_dict("records"), strict=True)]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value) if math.isfinite(value) else None
    return str(value)
