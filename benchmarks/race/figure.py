"""One picture of all parts that were measured."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from race.limits import median
from race.processes import Row
from race.tables import UNITS, unique

COLOURS = {
    "native": "#c1272d", "inductor": "#e6863b", "ours": "#c1272d", "ours_default": "#e6863b", "numpyro": "#2f6db3",
    "numpyro_vectorized": "#2f6db3", "numpyro_parallel": "#79a9dc", "pymc_nutpie": "#3f8f4f", "pyro": "#6b6b6b",
    "torch": "#8a5fb0", "torch_fused": "#bfa3d8",
}  # fmt: skip
GROWTH = (("rows", "logistic"), ("latents", "normal_means"), ("particles", "eight_schools"), ("particles", "logistic"))


def draw(document: dict[str, Any], path: Path) -> None:
    """Write a PNG with a panel or two per part, and four for growth."""
    rows = {part: document["parts"].get(part, {}).get("rows", []) for part in "abcdef"}
    with mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(15, 15), layout="constrained")
        top, middle, bottom = figure.subfigures(3, 1, height_ratios=(1.3, 1, 1))
        one, two, three = top.subplots(1, 3, width_ratios=(2, 1, 1))
        dots(one, rows["a"], "step", "(a) one SVI step, 1 particle", "log")
        dots(two, rows["c"], "seconds", "(c) NUTS, 4 x (1,000 + 1,000)", "log")
        dots(three, rows["c"], "ess_per_second", "(c) NUTS: more is better", "log")
        one, two, three = middle.subplots(1, 3)
        dots(one, rows["b"], "step", "(b) one step of an autoencoder, batch of 128", "linear")
        dots(two, rows["d"], "call", "(d) to the first step", "linear")
        dots(three, rows["f"], "peak", "(f) peak memory of a fit", "linear")
        for axes, (grows, model) in zip(bottom.subplots(1, 4), GROWTH, strict=True):
            chosen = [row for row in rows["e"] if row["work"]["grows"] == grows and row["work"]["model"] == model]
            growth(axes, chosen, grows, f"(e) {model.replace('_', ' ')}")
        measured = {row["peer"] for part in rows.values() for row in part}
        marks = [Line2D([], [], color=c, marker="o", label=peer) for peer, c in COLOURS.items() if peer in measured]
        top.legend(handles=marks, loc="outside upper center", ncols=len(marks) or 1, frameon=False)
        figure.savefig(path, dpi=120)


def dots(axes: Axes, rows: list[Row], name: str, title: str, scale: str) -> None:
    """Medians of a figure with their ranges: one line per piece of work, one colour per peer."""
    unit, factor = UNITS[name]
    works = unique([row["work"] for row in rows])
    peers = list(dict.fromkeys(row["peer"] for row in rows))
    for row in rows:
        middle, values = median(row, name), row["values"].get(name)
        if middle is None:
            continue
        # Peers of one line stand a little apart, so that none hides another.
        place = works.index(row["work"]) + 0.6 * ((peers.index(row["peer"]) + 0.5) / len(peers) - 0.5)
        colour = COLOURS[row["peer"]]
        axes.plot([factor * min(values), factor * max(values)], [place, place], color=colour, linewidth=1.5)
        axes.plot(factor * middle, place, "o", color=colour, markersize=5)
    axes.set(title=title, xlabel=unit, xscale=scale, ylim=(len(works) - 0.4, -0.6))
    axes.set_yticks(range(len(works)), [_name(work) for work in works])
    if scale == "linear":
        axes.set_xlim(left=0)
    for line in range(1, len(works)):
        axes.axhline(line - 0.5, color="0.85", linewidth=0.8)
    axes.grid(axis="x", alpha=0.3)


def growth(axes: Axes, rows: list[Row], grows: str, title: str) -> None:
    """Median step time against size, both on log scales."""
    unit, factor = UNITS["step"]
    for peer in dict.fromkeys(row["peer"] for row in rows):
        points = [(row["work"]["size"], median(row, "step")) for row in rows if row["peer"] == peer]
        known = [(size, factor * value) for size, value in points if value is not None]
        axes.plot(*zip(*known, strict=True) if known else ((), ()), "o-", color=COLOURS[peer], markersize=4)
    axes.set(title=title, xlabel=grows, ylabel=unit, xscale="log", yscale="log")
    axes.minorticks_off()
    axes.grid(alpha=0.3)


def _name(work: dict[str, Any]) -> str:
    names = {"none": "no cache", 1: "1 thread", 2: "2 threads"}
    return "\n".join(str(names.get(value, value)).replace("_", " ") for value in work.values())
