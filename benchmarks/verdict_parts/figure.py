"""The picture: verdicts by class without and with a baseline, and true errors beside what the check believes."""

import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.verdict_parts.of_checks import VALUE
from benchmarks.verdict_parts.rates import ALONE, SIDES, VERDICTS, confusion, counted
from benchmarks.verdict_parts.store import Row
from benchmarks.verdict_parts.truth import BAD_MEAN, BAD_SD, CLASSES
from ppl_models.files import write_whole

COLOURS = {"trust": "#0072b2", "correct": "#e69f00", "reject": "#8c8c8c"}
"""Told apart with any colour vision (Okabe and Ito 2008)."""
MARKS = {"trust": "o", "correct": "^", "reject": "x"}
LEAST, MOST = 1e-3, 30.0
PAIRS = (
    ("mean_error", "mean", BAD_MEAN, "largest error of a mean (sd)"),
    ("log_sd_ratio", "sd", math.log1p(BAD_SD), "largest |log ratio of sds|"),
)


def draw(rows: Sequence[Row], path: Path) -> None:
    """Write a PNG of four panels."""
    found = counted(rows)
    with mpl.rc_context({"font.size": 11, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(13, 11.5), layout="constrained")
        panels = figure.subplots(2, 2, gridspec_kw={"height_ratios": (0.72, 1.0)})
        for axes, side in zip(panels[0], SIDES, strict=True):
            heat(axes, confusion(found, side), SIDES[side])
        for axes, pair in zip(panels[1], PAIRS, strict=True):
            scatter(axes, found, *pair)
        if found:
            panels[1][0].legend(loc="upper left", frameon=False, title="verdict without a baseline", alignment="left")
        write_whole(path, lambda temporary: figure.savefig(temporary, dpi=110))


def heat(axes: Axes, counts: np.ndarray, title: str) -> None:
    """Shares of each class, as shades with the counts."""
    totals = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(totals, 1)
    axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto")
    for (row, column), share in np.ndenumerate(shares):
        colour = "white" if share > 0.55 else "black"
        text = f"{share:.1%}\n{counts[row, column]:,}"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=13)
    axes.set_xticks(range(len(VERDICTS)), VERDICTS)
    axes.set_yticks(
        range(len(CLASSES)), [f"{name}\n({total:,})" for name, total in zip(CLASSES, totals[:, 0], strict=True)]
    )
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(f"verdicts {title}", loc="left", fontweight="bold")
    axes.set_ylabel("class by the true errors (cases)")


def scatter(axes: Axes, rows: Sequence[Row], truth: str, check: str, limit: float, label: str) -> None:
    """The true error of each case, and what the check of that name found without a baseline."""
    for verdict in reversed(VERDICTS):
        points = [
            (abs(row[truth]), abs(row["checks"][check][VALUE]))
            for row in rows
            if row[ALONE] == verdict and row[truth] is not None and row["checks"].get(check, [None])[VALUE] is not None
        ]
        x, y = np.clip(np.array(points).reshape(-1, 2).T, LEAST, MOST)
        style = {"marker": MARKS[verdict], "color": COLOURS[verdict], "alpha": 0.65, "s": 26}
        axes.scatter(x, y, label=f"{verdict} ({len(x):,})", linewidths=1.0, **style)
    axes.axvline(limit, color="0.5", linewidth=0.8, linestyle=(0, (4, 3)))
    axes.axhline(limit, color="0.5", linewidth=0.8, linestyle=(0, (4, 3)))
    axes.plot([LEAST, MOST], [LEAST, MOST], color="0.8", linewidth=0.8, zorder=0)
    axes.set(xscale="log", yscale="log", xlim=(0.8 * LEAST, 1.25 * MOST), ylim=(0.8 * LEAST, 1.25 * MOST))
    axes.set_xlabel(f"{label}, true")
    axes.set_ylabel(f"{label}, by the check")
    axes.set_title(f"{label}; dashed: where it is bad", loc="left", fontweight="bold", fontsize=11)
