"""The tables by parameter: errors of the marginals, and what the gradients say."""

import math
from typing import Any

import numpy as np
import pandas as pd

from ppl_models.diagnostics import unmeasured_table
from ppl_models.diagnostics.moments import MOMENTS, judge
from ppl_models.diagnostics.score_checks import NEAR_NORMAL, SCORE_MOMENTS
from ppl_models.report.evidence import Evidence

MAX_ROWS = 200


def marginal_rows(evidence: Evidence) -> list[dict[str, Any]]:
    """Worst first: mean and sd of the fit, and each error with whether it is beyond its limit."""
    table, own = evidence.verdict.table, evidence.samples[0]
    if table.empty:
        return []
    failed = {moment.column: judge(table, moment).failed for moment in MOMENTS}
    places = {str(label): place for place, label in enumerate(table.index)}
    rows = []
    for label in map(str, evidence.verdict.worst(MAX_ROWS).index):
        draws, place = own.column(label), places[label]
        cells = [_cell(table, column, place, bool(failed[column][place])) for column in failed]
        rows.append({"label": label, "mean": f"{draws.mean():.4g}", "sd": f"{draws.std(ddof=1):.3g}", "cells": cells})
    return rows


def score_rows(evidence: Evidence) -> list[dict[str, Any]]:
    """Worst first: what the gradients ask for by unconstrained parameter, and how far a line explains them.

    An error is beyond its limit where `check_scores` counts it: not where the posterior is far from normal.
    """
    table = evidence.verdict.tables.get("scores")
    if table is None or table.empty:
        return []
    columns = [moment.column for moment in SCORE_MOMENTS]
    full = unmeasured_table([str(label) for label in table.index])
    full[table.columns.drop("residual")] = table.drop(columns="residual")
    near = table["residual"].to_numpy(dtype=float) <= NEAR_NORMAL
    failed = {moment.column: judge(full, moment).failed & near for moment in SCORE_MOMENTS}
    share = (table[columns].abs() / [moment.limit for moment in SCORE_MOMENTS]).max(axis=1).to_numpy(dtype=float)
    order = np.argsort(-np.nan_to_num(share, nan=-1.0), kind="stable")[:MAX_ROWS]
    return [
        {
            "label": str(table.index[place]),
            "cells": [_cell(table, column, place, bool(failed[column][place])) for column in columns],
            "residual": _percent(float(table["residual"].iloc[place])),
        }
        for place in map(int, order)
    ]


def _cell(table: pd.DataFrame, column: str, place: int, failed: bool) -> dict[str, Any]:
    value, error = (float(table[name].iloc[place]) for name in (column, f"{column}_mcse"))
    return {"text": _error(column, value, error), "failed": failed}


def _error(column: str, value: float, error: float) -> str:
    if math.isnan(value):
        return "-"
    if column == "log_sd_ratio":
        ratio = math.exp(min(value, 700.0))
        return f"{ratio:.2f} ± {ratio * error:.2f}" if math.isfinite(error) else f"{ratio:.2f}"
    sign = "" if column == "wasserstein_sd" else "+"
    return f"{value:{sign}.2f} ± {error:.2f}"


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.0f} %"
