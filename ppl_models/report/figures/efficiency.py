"""Errors of Monte Carlo methods against the number of draws."""

import math

import numpy as np
from matplotlib.figure import Figure

from ppl_models.inference.monte_carlo.comparison import ROUNDING, MethodComparison, MethodRuns
from ppl_models.report.figures.style import MUTED, drawing, light_grid, new_figure

# Okabe and Ito's palette without its yellow, and markers for those who see no colours
COLORS = ("#333333", "#0072B2", "#D55E00", "#009E73", "#A34E84", "#E69F00", "#56B4E9")
MARKERS = ("s", "o", "D", "^", "v", "P", "X")


def efficiency_figure(comparison: MethodComparison, title: str = "") -> Figure:
    """Root mean square error of one run against its draws, both logarithmic, with the fitted slope of each method.

    Where a method is exact but for rounding it has no line; the legend says from how many draws on.

    Args:
        comparison: of methods on one expectation.
        title: what was estimated.
    """
    with drawing():
        figure, axes = new_figure(4.4)
        axes.set_xscale("log")
        axes.set_yscale("log")
        for place, run in enumerate(comparison.runs):
            errors = comparison.errors(run)
            seen = errors > ROUNDING * abs(comparison.reference)
            axes.plot(
                run.num_draws[seen],
                errors[seen],
                color=COLORS[place % len(COLORS)],
                marker=MARKERS[place % len(MARKERS)],
                markersize=5,
                linewidth=1.6,
                label=_label(comparison, run),
            )
        _draw_root(axes, comparison)
        axes.set_xlabel("evaluations of f in one run")
        axes.set_ylabel(f"root mean square error of {comparison.config['num_repeats']} runs")
        if title:
            axes.set_title(title)
        light_grid(axes)
        axes.minorticks_off()
        figure.legend(loc="outside lower center", ncols=2)
    return figure


def _label(comparison: MethodComparison, run: MethodRuns) -> str:
    name = run.name.replace("_", " ")
    seen = comparison.errors(run) > ROUNDING * abs(comparison.reference)
    if not seen[-1]:
        first = int(run.num_draws[int(np.flatnonzero(seen)[-1]) + 1 if seen.any() else 0])
        return f"{name}: exact from {first:,}"
    slope = comparison.slope(run)
    return name if math.isnan(slope) else f"{name}: slope {slope:.2f}".replace("-", "\N{MINUS SIGN}")


def _draw_root(axes, comparison: MethodComparison) -> None:
    """The square-root law, through the first error of plain Monte Carlo."""
    base = next((run for run in comparison.runs if run.name == "plain"), comparison.runs[0])
    error = comparison.errors(base)[0]
    if error > 0.0:
        draws = base.num_draws[[0, -1]]
        line = error * np.sqrt(draws[0] / draws)
        axes.plot(draws, line, color=MUTED, linestyle=(0, (2, 2)), linewidth=1.2, label="1 / √draws", zorder=0)
