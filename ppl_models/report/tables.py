"""Tables for the terminal."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from rich import box
from rich.table import Table
from rich.text import Text

from ppl_models.diagnostics import Check, Verdict
from ppl_models.report.evidence import Evidence

VERDICT_STYLES = {"trust": "bold green", "correct": "bold yellow", "reject": "bold red"}
CHECK_STYLES = {"pass": "green", "FAIL": "bold red", "?": "yellow"}


def verdict_table(
    evidence: Sequence[Evidence],
    *,
    title: str = "",
    failures: Mapping[str, str] | None = None,
    sort_by_elbo: bool = False,
) -> Table:
    """One row per guide: status, ELBO, k-hat, the worst errors, seconds and the verdict.

    Args:
        evidence: of each fit.
        title: of the table.
        failures: guide -> why it could not be fitted; they come last.
        sort_by_elbo: largest ELBO first, instead of the order given.
    """
    table = Table(
        title=Text(title) if title else None,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("guide", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("status", overflow="fold")
    for column in ("ELBO (nats)", "k-hat", "worst mean (sd)", "worst sd ratio"):
        table.add_column(column, justify="right")
    table.add_column("fit (s)", justify="right")
    for row in sorted(evidence, key=_elbo_rank) if sort_by_elbo else evidence:
        table.add_row(
            Text(row.name),
            verdict_text(row.verdict.verdict),
            Text(row.fit.status),
            elbo_text(row.elbo),
            f"{row.verdict.khat:.2f}" if math.isfinite(row.verdict.khat) else "-",
            Text(worst_mean(row.verdict)),
            Text(worst_sd_ratio(row.verdict)),
            f"{row.fit.seconds:.1f}",
        )
    for name, reason in (failures or {}).items():
        table.add_row(Text(name), Text("not fitted", style="dim"), Text(reason, style="dim", overflow="fold"))
    return table


def checks_table(verdict: Verdict) -> Table:
    """Every check of a verdict with its evidence."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column, justify in (("", "left"), ("check", "left"), ("value", "right"), ("limit", "right"), ("found", "left")):
        table.add_column(column, justify=justify)  # pyright: ignore[reportArgumentType]
    for check in verdict.checks:
        table.add_row(
            Text(check.mark, style=CHECK_STYLES[check.mark]),
            check.name,
            value_text(check),
            limit_text(check),
            Text("; ".join(part for part in (check.detail, check.advice) if part)),
        )
    return table


def summary_table(frame: pd.DataFrame, *, title: str = "", num_rows: int = 30) -> Table:
    """A frame of numbers by parameter, its first rows."""
    table = Table(
        title=Text(title) if title else None,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column(str(frame.index.name or "parameter"))
    for column in frame.columns:
        table.add_column(str(column), justify="right")
    for name, row in frame.head(num_rows).iterrows():
        table.add_row(Text(str(name)), *(f"{value:.4g}" for value in row))
    if len(frame) > num_rows:
        table.caption = f"the first {num_rows} of {len(frame):,} parameters"
    return table


def verdict_text(verdict: str) -> Text:
    """The verdict in its colour."""
    return Text(verdict, style=VERDICT_STYLES.get(verdict, ""))


def elbo_text(elbo: tuple[float, float]) -> str:
    """An ELBO with its Monte Carlo error, rounded to what the error resolves."""
    value, error = elbo
    return with_error(value, error) if math.isfinite(value) else "-"


def value_text(check: Check) -> str:
    """The value of a check with its Monte Carlo error."""
    value = check.value
    if not math.isfinite(value):
        return check.measured
    if math.isfinite(check.mcse):
        return with_error(value, check.mcse)
    if 0 < abs(value) < 1e-3:
        return f"{value:.2g}"
    decimals = 0 if value == round(value) or abs(value) >= 100 else 1 if abs(value) >= 10 else 3
    return f"{value:,.{decimals}f}"


def with_error(value: float, error: float) -> str:
    """A value and its Monte Carlo error, rounded to two digits of the error."""
    if not math.isfinite(error) or error <= 0:
        return f"{value:,.2f}"
    decimals = min(max(1 - math.floor(math.log10(error)), 0), 4)
    return f"{value:,.{decimals}f} ± {error:,.{decimals}f}"


def worst_mean(verdict: Verdict) -> str:
    """The largest error of a mean, in reference sd, with its parameter."""
    return _worst(verdict, "mean_error_sd", lambda value: f"{value:+.2f}")


def worst_sd_ratio(verdict: Verdict) -> str:
    """The sd ratio that is furthest from 1, fit over reference, with its parameter."""
    return _worst(verdict, "log_sd_ratio", lambda value: f"{math.exp(min(value, 700.0)):.2f}")


def limit_text(check: Check) -> str:
    """The limit of a check, empty where it has none or nothing was held against it."""
    return "" if math.isnan(check.limit) or math.isnan(check.value) else f"{check.limit:.3g}"


def _worst(verdict: Verdict, column: str, show: Callable[[float], str]) -> str:
    values = verdict.table[column].to_numpy(dtype=float) if column in verdict.table else np.array([])
    if np.isnan(values).all():
        return "-"
    place = int(np.nanargmax(np.abs(values)))
    return f"{show(values[place])} {verdict.table.index[place]}"


def _elbo_rank(evidence: Evidence) -> float:
    value = evidence.elbo[0]
    return math.inf if math.isnan(value) else -value
