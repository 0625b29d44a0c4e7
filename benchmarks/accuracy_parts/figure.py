"""Accuracy against time: the share of problems that a method gets right within so many seconds, one line a method."""

import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.accuracy_parts.entrants import AUTO, AUTO_WITHOUT_MCMC, METHODS, NUMPYRO_NUTS, OURS, PYRO_NUTS
from benchmarks.accuracy_parts.measuring import labels_of
from benchmarks.accuracy_parts.summary import curve
from benchmarks.tuning_parts.rules import Row
from ppl_models.files import write_whole

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#8a6d00", "#7b3294")
"""Told apart with any colour vision (Okabe and Ito 2008; the yellow is darkened, purple is added)."""
DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)))
EMPHASIS = {AUTO: "black", AUTO_WITHOUT_MCMC: "0.35"}
PANELS = ("families of this library", "its methods", "peers")
GAP = 0.038
"""Least distance of two labels, of the height of the panel."""


def draw(rows: Sequence[Row], path: Path) -> None:
    """Write a PNG with a panel for families, one for methods and one for the peers; `auto` stands in all."""
    style = {"font.size": 11, "axes.spines.top": False, "axes.spines.right": False}
    with mpl.rc_context(style):
        figure = Figure(figsize=(19, 7), layout="constrained")
        limits = _limits(rows)
        side = {row["guide"]: row["side"] for row in rows}
        for axes, title in zip(panels := figure.subplots(1, 3, sharey=True), PANELS, strict=True):
            shown = [label for label in labels_of(rows) if label in EMPHASIS or _panel(label, side[label]) == title]
            panel(axes, {label: [row for row in rows if row["guide"] == label] for label in shown}, limits)
            axes.set_title(title, loc="left", fontweight="bold")
        panels[0].set_ylabel("share of problems with every mean within 0.1 sd, every sd within 10 %")
        figure.supxlabel("seconds of the first call, with compiling and draws", fontsize=11)
        write_whole(path, lambda temporary: figure.savefig(temporary, dpi=110))


def panel(axes: Axes, rows: dict[str, list[Row]], limits: tuple[float, float]) -> None:
    """One panel: steps, and the labels at their right ends, apart from each other."""
    low, high = limits
    most = max((len(of) for label, of in rows.items() if label != PYRO_NUTS), default=0)
    styles, ends = _styles(list(rows)), {}
    for label, of in rows.items():
        times, shares = curve(of)
        ends[label] = float(shares[-1]) if len(shares) else 0.0
        x = np.concatenate([[low], times, [high]])
        y = np.concatenate([[0.0], shares, [ends[label]]])
        axes.step(x, y, where="post", **styles[label])
    places = spread(ends, GAP)
    for label, place in places.items():
        few = f" of {len(rows[label])}" if len(rows[label]) < most else ""
        axes.annotate(
            f"{label.replace('_', ' ')}  {ends[label]:.0%}{few}",
            xy=(high, ends[label]),
            xytext=(high * (high / low) ** 0.04, place),
            va="center",
            annotation_clip=False,
            color=styles[label]["color"],
            fontweight="bold" if label in (*EMPHASIS, NUMPYRO_NUTS) else "normal",
            arrowprops={
                "arrowstyle": "-",
                "color": styles[label]["color"],
                "linewidth": 0.6,
                "shrinkA": 0,
                "shrinkB": 0,
                "relpos": (0.0, 0.5),
            },
        )
    axes.set(xscale="log", xlim=limits, ylim=(-0.02, 1.02))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.grid(alpha=0.25)


def spread(ends: dict[str, float], gap: float) -> dict[str, float]:
    """Places at least `gap` apart, in the order of the ends and near them, for labels.

    Overlapping labels form a block that is centred on its ends; blocks that then overlap are joined.
    """
    order = sorted(ends, key=lambda label: (ends[label], label))
    blocks: list[list[str]] = []
    for label in order:
        blocks.append([label])
        while len(blocks) > 1 and _bottom(blocks[-1], ends, gap) < _top(blocks[-2], ends, gap) + gap:
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    return {label: _bottom(block, ends, gap) + gap * index for block in blocks for index, label in enumerate(block)}


def _bottom(block: list[str], ends: dict[str, float], gap: float) -> float:
    height = gap * (len(block) - 1)
    centre = sum(ends[label] for label in block) / len(block)
    return min(max(centre - height / 2.0, 0.0), max(1.0 - height, 0.0))


def _top(block: list[str], ends: dict[str, float], gap: float) -> float:
    return _bottom(block, ends, gap) + gap * (len(block) - 1)


def _styles(labels: list[str]) -> dict[str, dict]:
    others = [label for label in labels if label not in EMPHASIS]
    styles = {
        label: {"color": COLOURS[index % len(COLOURS)], "linestyle": DASHES[index // len(COLOURS)], "linewidth": 1.6}
        for index, label in enumerate(others)
    }
    return styles | {label: {"color": colour, "linewidth": 3.0} for label, colour in EMPHASIS.items()}


def _panel(label: str, side: str) -> str:
    return PANELS[2 if side != OURS else int(label in METHODS)]


def _limits(rows: Sequence[Row]) -> tuple[float, float]:
    """Decades that hold all the times of accurate runs."""
    times = curve(rows)[0] if rows else np.array([])
    if not len(times):
        return 0.1, 1_000.0
    return 10.0 ** math.floor(math.log10(times[0])), 10.0 ** math.ceil(math.log10(times[-1]) + 1e-9)
