"""The data beside data that the fit predicts."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ppl_models.report.evidence import Predicted
from ppl_models.report.figures.style import COLORS, MARKERS, drawing, light_grid, new_figure

MAX_CATEGORIES = 12
GRID_SIZE = 400
INNER, OUTER = (0.25, 0.75), (0.03, 0.97)

Float64Array = NDArray[np.float64]


def predictive_figure(predicted: Predicted) -> Figure:
    """Whether data like these would come from the fit: distribution functions, or counts where there are few values.

    Args:
        predicted: the data of one site, and draws of them.
    """
    values = np.unique(predicted.observed)
    # measurements that happen to be whole numbers are no counts: their predictions are not whole
    whole = all(bool((data == np.round(data)).all()) for data in (values, predicted.draws))
    with drawing():
        figure, axes = new_figure(3.4)
        if whole and values.size <= MAX_CATEGORIES:
            _counts(axes, predicted)
        else:
            _distribution_functions(axes, predicted)
        axes.set_xlabel(predicted.site)
        light_grid(axes, "y")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=3)
    return figure


def _distribution_functions(axes: Axes, predicted: Predicted) -> None:
    observed = np.sort(predicted.observed)
    draws = predicted.draws
    low, high = np.quantile(draws, [0.005, 0.995])
    low, high = min(low, observed[0]), max(high, observed[-1])
    margin = 0.03 * max(high - low, 1e-12)
    grid = np.linspace(low - margin, high + margin, GRID_SIZE)
    shares = np.stack([np.searchsorted(np.sort(draw), grid, side="right") / draw.size for draw in draws])
    outer, inner = np.quantile(shares, OUTER, axis=0), np.quantile(shares, INNER, axis=0)
    axes.fill_between(grid, *outer, color=COLORS["guide"], alpha=0.18, linewidth=0, label="predicted, 94 %")
    axes.fill_between(grid, *inner, color=COLORS["guide"], alpha=0.35, linewidth=0, label="predicted, 50 %")
    axes.step(
        np.concatenate([[grid[0]], observed, [grid[-1]]]),
        np.concatenate([[0.0], np.arange(1, observed.size + 1) / observed.size, [1.0]]),
        where="post",
        color=COLORS["baseline"],
        linewidth=1.4,
        label="observed",
    )
    axes.set_ylabel("share of the data at most this")
    axes.set_xlim(grid[0], grid[-1])
    axes.set_ylim(0.0, 1.02)


def _counts(axes: Axes, predicted: Predicted) -> None:
    categories = np.unique(np.concatenate([predicted.observed, np.unique(predicted.draws)]))[: 2 * MAX_CATEGORIES]
    observed = [(predicted.observed == category).sum() for category in categories]
    counts = np.stack([(predicted.draws == category).sum(axis=1) for category in categories])
    for quantiles, width, share in ((OUTER, 1.4, "94 %"), (INNER, 5.0, "50 %")):
        low, high = np.quantile(counts, quantiles, axis=1)
        axes.vlines(categories, low, high, color=COLORS["guide"], linewidth=width, label=f"predicted, {share}")
    axes.plot(categories, observed, MARKERS["baseline"], color=COLORS["baseline"], markersize=6, label="observed")
    axes.set_xticks(categories)
    axes.set_xlim(categories[0] - 0.6, categories[-1] + 0.6)
    axes.set_ylim(bottom=0.0)
    axes.margins(y=0.1)
    axes.set_ylabel("number of data")
