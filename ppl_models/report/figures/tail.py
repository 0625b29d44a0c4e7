"""The right tail of the importance weights, which k-hat measures."""

import math
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from ppl_models.report.figures.style import ACCENT, COLORS, MUTED, drawing, light_grid, new_figure

MAX_BODY = 600

Float64Array = NDArray[np.float64]


def tail_figure(log_ratio: ArrayLike, khat: float, limit: float) -> Figure:
    """Share of the draws that have a larger weight, against the weight, both logarithmic; the tail with its Pareto fit.

    Args:
        log_ratio: log p - log q in nats, shape (draw,).
        khat: k-hat (unitless); NaN when it could not be measured.
        limit: the largest k-hat that can be used.
    """
    ratios = np.asarray(log_ratio, dtype=float)
    ratios = np.sort(ratios[np.isfinite(ratios)])
    with drawing():
        figure, axes = new_figure(3.8)
        axes.set_yscale("log")
        axes.set_xlabel("log weight, less the log of the mean weight (nats)")
        axes.set_ylabel("share of draws with a larger weight")
        light_grid(axes)
        if ratios.size < 2:
            axes.text(0.5, 0.5, "no finite weights", ha="center", transform=axes.transAxes)
            return figure
        weights = ratios - (float(np.asarray(logsumexp(ratios))) - math.log(ratios.size))
        shares = np.arange(ratios.size, 0, -1) / ratios.size
        num_tail = min(
            math.floor(3 * math.sqrt(ratios.size)) if ratios.size > 225 else ratios.size // 5, ratios.size - 1
        )
        body, tail = slice(0, ratios.size - num_tail), slice(ratios.size - num_tail, None)
        every = max((ratios.size - num_tail) // MAX_BODY, 1)
        axes.plot(weights[body][::every], shares[body][::every], color=MUTED, linewidth=1.6, label="weights")
        axes.plot(weights[tail], shares[tail], "o", color=COLORS["guide"], markersize=3.2, label="tail")
        _draw_pareto(axes, weights, num_tail, khat, limit)
        start = float(np.quantile(weights, 0.001))
        end = max(float(weights[-1]), 0.0)
        axes.set_xlim(start, end + 0.08 * max(end - start, 1e-9))
        axes.set_ylim(0.5 / ratios.size, 1.5)
        axes.minorticks_off()
        axes.legend(loc="lower left")
    return figure


def _draw_pareto(axes, weights: Float64Array, num_tail: int, khat: float, limit: float) -> None:
    """Pareto tails through the median of the exceedances: the fitted one, and the heaviest that can be used."""
    cutoff = weights[-num_tail - 1]
    exceed = np.expm1(np.minimum(weights[-num_tail:] - cutoff, 600.0))
    middle = float(np.median(exceed))
    if not middle > 0:
        return
    grid = np.logspace(math.log10(middle) - 3, math.log10(max(float(exceed[-1]), middle)) + 1, 200)
    share = num_tail / weights.size
    lines: list[tuple[float, str, str, Any]] = [(limit, f"limit {limit:.2f}", ACCENT, (0, (4, 2)))]
    if math.isfinite(khat):
        lines.insert(0, (khat, f"Pareto, k-hat {khat:.2f}", COLORS["psis"], "-"))
    for shape, name, color, line in lines:
        survival = _survival(grid, shape, middle)
        kept = survival > 0
        axes.plot(
            cutoff + np.log1p(grid[kept]),
            share * survival[kept],
            color=color,
            linestyle=line,
            linewidth=1.5,
            label=name,
        )


def _survival(exceed: Float64Array, shape: float, median: float) -> Float64Array:
    """Survival function of the generalised Pareto distribution of that shape and median."""
    if abs(shape) < 1e-6:
        return np.exp(-exceed * math.log(2.0) / median)
    scale = shape * median / math.expm1(shape * math.log(2.0))
    return np.maximum(1.0 + shape * exceed / scale, 0.0) ** (-1.0 / shape)
