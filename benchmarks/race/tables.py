"""Tables for the terminal: one line per piece of work, or one per peer where there are several figures."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from race.limits import OURS, median
from race.processes import Row, describe

UNITS = {
    "step": ("µs a step", 1e6),
    "seconds": ("seconds", 1.0),
    "sampling": ("sampling alone (s)", 1.0),
    "gradients": ("gradients", 1.0),
    "ess_per_second": ("min ESS/s", 1.0),
    "process": ("from process start (s)", 1.0),
    "call": ("from the call (s)", 1.0),
    "peak": ("peak (MiB)", 1.0),
    "beyond": ("beyond imports and data (MiB)", 1.0),
}
"""Figures that tables show, their headings and the factor from the unit they are stored in."""


MOST_NAMED = 3


def number(value: float) -> str:
    """Three digits that count."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def share(ratio: float) -> str:
    """A ratio, small ones as a fraction."""
    return f"1/{1 / ratio:,.0f}" if ratio < 0.1 else f"{ratio:.3g}"


def cell(row: Row, figure: str) -> str:
    """Median and range of a figure; an asterisk where `remarks` says why to doubt it."""
    values = [value * UNITS[figure][1] for value in row["values"].get(figure, ())]
    if row["error"]:
        return "failed*"
    if not values:
        return ""
    middle = (median(row, figure) or 0.0) * UNITS[figure][1]
    return f"{number(middle)} ({number(min(values))}-{number(max(values))}){'*' if row['notes'] else ''}"


def remarks(rows: Sequence[Row]) -> list[str]:
    """What went wrong, or other than asked, each once with the work that it befell."""
    found: dict[str, list[str]] = {}
    for row in rows:
        for text in [*row["notes"], *([f"failed: {row['error']}"] if row["error"] else [])]:
            found.setdefault(f"{row['peer']} {text}", []).append(describe(row["work"]))
    return [f"* {text} ({_some(works)})" for text, works in found.items()]


def _some(works: list[str]) -> str:
    return ", ".join(works) if len(works) <= MOST_NAMED else f"{works[0]} and {len(works) - 1} others"


def by_work(title: str, rows: Sequence[Row], figure: str) -> Table:
    """One line per piece of work, one column per peer, then how many times the first column each peer takes."""
    peers = list(dict.fromkeys(row["peer"] for row in rows))
    works = unique([row["work"] for row in rows])
    rivals = [peer for peer in peers if peer not in OURS]
    ratios = [f"{peers[0]} / {rival}" for rival in rivals]
    table = Table(*works[0], *(f"{peer}, {UNITS[figure][0]}" for peer in peers), *ratios, title=title)
    for work in works:
        found = {row["peer"]: row for row in rows if row["work"] == work}
        ours = median(found[peers[0]], figure) if peers[0] in found else None
        shares = [(ours, median(found[rival], figure) if rival in found else None) for rival in rivals]
        table.add_row(
            *(describe({"": value}) for value in work.values()),
            *(cell(found[peer], figure) if peer in found else "" for peer in peers),
            *(share(a / b) if a and b else "" for a, b in shares),
        )
    return table


def by_peer(title: str, rows: Sequence[Row]) -> Table:
    """One line per piece of work and peer, one column per figure."""
    figures = [name for name in UNITS if any(name in row["values"] for row in rows)]
    table = Table(*rows[0]["work"], "peer", *(UNITS[name][0] for name in figures), title=title)
    for row in sorted(rows, key=lambda row: str(row["work"].get("model"))):
        cells = (cell(row, name) for name in figures)
        table.add_row(*(describe({"": value}) for value in row["work"].values()), row["peer"], *cells)
    return table


def verdicts(entries: Sequence[dict[str, Any]]) -> Table:
    """The figures to reach, and whether they are."""
    table = Table("part", "work", "ours", "against", "found", "at most", "", title="Figures to reach")
    for entry in entries:
        word = {True: "met", False: "[bold]MISSED[/bold]", None: "not measured"}[entry["met"]]
        against = entry["against"] or UNITS[entry["figure"]][0]
        found = "" if entry["found"] is None else share(entry["found"])
        table.add_row(
            entry["part"], describe(entry["work"]), entry["ours"], against, found, share(entry["limit"]), word
        )
    return table


def unique(items: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each item once, in the order of first appearance."""
    return [item for index, item in enumerate(items) if item not in items[:index]]
