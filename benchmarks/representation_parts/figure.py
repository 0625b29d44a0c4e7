"""The picture: the bracket of log p(x) by method, test log likelihoods by model, rate against distortion."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ppl_models.files import write_whole
from ppl_models.report.figures.efficiency import COLORS

Rows = Sequence[Mapping[str, Any]]
SETTINGS = {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}


def draw(parts: Mapping[str, Any], path: Path) -> Path | None:
    """Write a PNG with a panel for each part that has one; None, and no file, where none was measured."""
    panels = [(panel, parts[name]["rows"]) for name, panel in PANELS.items() if name in parts]
    if not panels:
        return None
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(4.6 * len(panels), 3.8), layout="constrained")
        for (panel, rows), axes in zip(panels, figure.subplots(1, len(panels), squeeze=False)[0], strict=True):
            panel(axes, rows)
        return write_whole(path, lambda temporary: figure.savefig(temporary, dpi=110))


def _likelihoods(axes: Axes, rows: Rows) -> None:
    for place, row in enumerate(rows):
        color = COLORS[place % len(COLORS)]
        axes.errorbar(row["test_log_likelihood"], place, xerr=row["standard_error"], fmt="o", color=color, capsize=3)
        axes.plot(row["by_seed"], np.full(len(row["by_seed"]), place), "|", color=color)
    axes.set_yticks(range(len(rows)), [row["model"] for row in rows])
    axes.invert_yaxis()
    axes.set(title="MNIST-5k, three seeds", xlabel="test log likelihood, nats per image")


def _bracket(axes: Axes, rows: Rows) -> None:
    row = rows[0]
    names = [name for name in row if name.startswith("L_")]
    values = [*(row[name] for name in names), row["log_evidence"], row["reverse_ais"]]
    axes.plot(values, range(len(values)), "o-", color=COLORS[0])
    axes.set_yticks(range(len(values)), [*names, "log p(x)", "reverse AIS"])
    axes.set(title=f"{row['rows']} digits not seen", xlabel="mean over digits, nats")
    axes.locator_params(axis="x", nbins=5)


def _rate_distortion(axes: Axes, rows: Rows) -> None:
    axes.plot([row["distortion"] for row in rows], [row["rate"] for row in rows], "o-", color=COLORS[1])
    for row in rows:
        axes.annotate(
            f"β = {row['beta']:g}", (row["distortion"], row["rate"]), xytext=(6, 3), textcoords="offset points"
        )
    axes.set(title="Digits not seen, by beta", xlabel="distortion, nats per image", ylabel="rate, nats per image")


PANELS = {"posteriors": _bracket, "mnist": _likelihoods, "rate_distortion": _rate_distortion}
