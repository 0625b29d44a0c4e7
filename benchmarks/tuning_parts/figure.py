"""One picture of all parts that were measured."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.tuning_parts import rules
from benchmarks.tuning_parts.rules import Row
from ppl_models.files import write_whole

COLOURS = {"normal": "#2f6db3", "full_rank": "#c1272d", "handwritten": "#3f8f4f"}
SIDES = {
    "automatic": ("#c1272d", -0.2, "automatic"),
    "fixed": ("#2f6db3", 0.0, "tuned by hand"),
    "cooled": ("#79a9dc", 0.2, "tuned by hand, step size falls"),
}
SMALLEST = 1e-4
"""Deficits below are drawn here: they are noise."""


def draw(parts: dict[str, Any], path: Path) -> None:
    """Write a PNG with a panel for each part."""
    rows = {part: parts.get(part, {}).get("rows", []) for part in "abcde"}
    with mpl.rc_context({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(17, 16), layout="constrained")
        left, middle, right = figure.subfigures(1, 3)
        deficits(left.subplots(), rows["a"], "(a) default fits below their family's best", rules.BEST_NATS)
        upper, lower = middle.subplots(2, 1)
        moments(upper, rows["b"])
        seconds(lower, rows["e"])
        upper, lower = right.subplots(2, 1, height_ratios=(2, 1))
        longer = [row for row in rows["d"] if row["kind"] == "longer"]
        deficits(upper, longer, "(d) below runs ten times as long", rules.LONGER_NATS)
        deficits(lower, rows["c"], "(c) data in other units, below the first", rules.BEST_NATS)
        write_whole(path, lambda temporary: figure.savefig(temporary, dpi=110))


def deficits(axes: Axes, rows: Sequence[Row], title: str, limit: float) -> None:
    """Deficits on a log scale, one line a problem; hollow where the fit did not say that it had converged."""
    problems = list(dict.fromkeys(row["problem"] for row in rows))
    for row in rows:
        guides = list(COLOURS)
        place = problems.index(row["problem"]) + 0.2 * (guides.index(row["guide"]) - 1)
        colour = COLOURS[row["guide"]]
        filled = colour if row["status"] == "converged" else "none"
        value = max(row["deficit"], SMALLEST)
        axes.plot(value, place, "o", markersize=4, markeredgecolor=colour, markerfacecolor=filled)
    axes.axvline(limit, color="0.3", linewidth=1)
    axes.set(title=title, xlabel="nats", xscale="log", ylim=(len(problems) - 0.4, -0.6))
    axes.set_yticks(range(len(problems)), problems)
    axes.grid(axis="x", alpha=0.3)
    for guide, colour in COLOURS.items():
        if any(row["guide"] == guide for row in rows):
            axes.plot([], [], "o", color=colour, label=guide)
    axes.legend(loc="best") if rows else None


def moments(axes: Axes, rows: Sequence[Row]) -> None:
    """Errors of means and sds against the reference, and of the family's best guide."""
    problems = list(dict.fromkeys(row["problem"] for row in rows))
    for row in rows:
        place = problems.index(row["problem"])
        for kind, colour in (("mean", "#c1272d"), ("sd", "#2f6db3")):
            axes.plot(row[f"{kind}_error"], place, "o", color=colour, markersize=4)
            axes.plot(row[f"best_{kind}_error"], place, "|", color=colour, markersize=9)
    axes.axvline(rules.MEAN_ERROR, color="0.3", linewidth=1)
    axes.plot([], [], "o", color="#c1272d", label="mean, in sds")
    axes.plot([], [], "o", color="#2f6db3", label="ratio of sds")
    axes.plot([], [], "|", color="0.3", label="the family's best guide")
    axes.set(title="(b) full_rank draws against the reference", xlabel="largest error", xscale="log")
    axes.set_ylim(len(problems) - 0.4, -0.6)
    axes.set_yticks(range(len(problems)), problems)
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="best")


def seconds(axes: Axes, rows: Sequence[Row]) -> None:
    """Medians and ranges of whole calls, automatic and tuned by hand."""
    for place, row in enumerate(rows):
        for side, (colour, shift, _) in SIDES.items():
            values = row["rounds"][side]
            if values:
                axes.plot([min(values), max(values)], [place + shift] * 2, color=colour, linewidth=1.5)
                axes.plot(np.median(values), place + shift, "o", color=colour, markersize=5)
    for colour, _, label in SIDES.values():
        axes.plot([], [], "o", color=colour, label=label)
    axes.set(title="(e) seconds of the whole call", xlabel="s", xscale="log", ylim=(len(rows) - 0.4, -0.6))
    axes.set_yticks(range(len(rows)), [f"{row['problem']}\n{row['guide']}" for row in rows])
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="best")
