"""The picture: on each integrand, how the error of each method falls with the number of draws."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ppl_models.files import write_whole
from ppl_models.report.figures.efficiency import COLORS, MARKERS

COLUMNS = 3
ROUNDING = 1e-15


def draw(parts: Mapping[str, Any], path: Path) -> Path | None:
    """Write a PNG with a panel for each integrand; None, and no file, where the efficiency was not measured."""
    rows = parts.get("efficiency", {}).get("rows", [])
    if not rows:
        return None
    integrands = list(dict.fromkeys(row["integrand"] for row in rows))
    methods = list(dict.fromkeys(row["method"] for row in rows))
    settings = {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}
    with mpl.rc_context(settings):
        height = math.ceil(len(integrands) / COLUMNS)
        figure = Figure(figsize=(12, 3.1 * height + 0.6), layout="constrained")
        panels = np.atleast_1d(figure.subplots(height, COLUMNS, squeeze=False)).ravel()
        for axes, name in zip(panels, integrands, strict=False):
            _panel(axes, name, [row for row in rows if row["integrand"] == name], methods)
        for axes in panels[len(integrands) :]:
            axes.set_axis_off()
        handles = {
            label: line for axes in panels for line, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        figure.legend(
            list(handles.values()), list(handles), loc="outside lower center", ncols=len(handles), frameon=False
        )
        return write_whole(path, lambda temporary: figure.savefig(temporary, dpi=110))


def _panel(axes: Axes, name: str, rows: Sequence[Mapping[str, Any]], methods: Sequence[str]) -> None:
    axes.set(xscale="log", yscale="log", title=name.replace("_", " "))
    for row in rows:
        place = methods.index(row["method"])
        sizes, errors = np.array(row["sizes"], dtype=float), np.array(row["errors"], dtype=float)
        seen = errors > ROUNDING
        axes.plot(
            sizes[seen],
            errors[seen],
            color=COLORS[place % len(COLORS)],
            marker=MARKERS[place % len(MARKERS)],
            markersize=4,
            linewidth=1.4,
            label=row["method"].replace("_", " "),
        )
    axes.set_xlabel("evaluations of f")
    axes.set_ylabel("root mean square error")
    axes.grid(True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.minorticks_off()
