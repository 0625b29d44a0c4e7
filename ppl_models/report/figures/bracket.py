"""The bracket around log p(x)."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from ppl_models.report.figures.style import COLORS, GRID, MUTED, drawing, light_grid, new_figure

SHADES = ("#9ecae1", "#4a98c9", "#0072B2", "#004c78")


def bracket_figure(bounds: Mapping[str, ArrayLike], lower: ArrayLike, upper: ArrayLike, evidence: ArrayLike) -> Figure:
    """Each datum's bounds less log p(x), nats: from below the importance weighted ones and AIS, from above reverse AIS.

    Args:
        bounds: name -> bound from below, shape (row,), loosest first, as {"L_1": ..., "L_5": ..., "L_50": ...}.
        lower: annealed importance sampling, shape (row,).
        upper: the reverse run from posterior draws, shape (row,).
        evidence: the best estimate of log p(x), shape (row,).
    """
    middle = np.asarray(evidence, dtype=float)
    below = {name: np.asarray(values, dtype=float) - middle for name, values in bounds.items()}
    low, high = (np.asarray(each, dtype=float) - middle for each in (lower, upper))
    loosest = next(iter(below.values())) if below else low
    order = np.argsort(loosest, kind="stable")
    places = np.arange(len(middle))
    with drawing():
        figure, axes = new_figure(3.6)
        axes.axhline(0.0, color=MUTED, linewidth=0.8)
        axes.vlines(places, low[order], high[order], color=GRID, linewidth=2.0, zorder=1)
        for (name, values), shade in zip(below.items(), _shades(below), strict=True):
            axes.plot(places, values[order], ".", color=shade, markersize=4, label=f"{name}, mean {values.mean():.2f}")
        axes.plot(places, low[order], "^", color=COLORS["pool"], markersize=3, label=f"AIS, mean {low.mean():.2f}")
        axes.plot(
            places, high[order], "v", color=COLORS["psis"], markersize=3, label=f"reverse AIS, mean {high.mean():+.2f}"
        )
        axes.set_xlabel("datum, loosest ELBO first")
        axes.set_ylabel("bound \N{MINUS SIGN} log p(x) (nats)")
        axes.set_yscale("symlog", linthresh=0.5)
        ticks = [-100, -10, -3, -1, -0.5, -0.25, 0, 0.25, 0.5, 1, 3, 10]
        bottom, top = axes.get_ylim()
        kept = [tick for tick in ticks if bottom <= tick <= top]
        axes.set_yticks(kept, [f"{tick:g}".replace("-", "\N{MINUS SIGN}") for tick in kept])
        axes.minorticks_off()
        light_grid(axes, "y")
        figure.legend(loc="outside upper left", ncols=3, fontsize=9, handletextpad=0.2, columnspacing=1.0)
    return figure


def _shades(bounds: Mapping[str, object]) -> Sequence[str]:
    return [SHADES[min(place, len(SHADES) - 1)] for place in range(len(bounds))]
