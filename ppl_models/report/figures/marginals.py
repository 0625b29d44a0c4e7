"""Marginals of the guide beside those of the reference: intervals of many parameters, densities of a few."""

from collections.abc import Sequence

import numpy as np
from arviz_stats.base import array_stats
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ppl_models.report.evidence import Sample
from ppl_models.report.figures.style import COLORS, LINES, MARKERS, MUTED, drawing, light_grid, new_figure

INNER, OUTER = (0.25, 0.75), (0.03, 0.97)
MAX_DENSITIES = 6
GRID_SIZE = 512
QUARTER_WIDTH = 0.637  # of the narrowest quarter of a standard normal
MAX_LABEL = 28

Float64Array = NDArray[np.float64]


def forest_figure(samples: Sequence[Sample], labels: Sequence[str]) -> Figure:
    """Means with their 50 % and 94 % intervals, in standard deviations of the last sample.

    Args:
        samples: the guide first, the reference last.
        labels: the parameters to show, top to bottom.
    """
    with drawing():
        figure, axes = new_figure(1.1 + (0.12 + 0.075 * len(samples)) * len(labels))
        gap = 0.8 / (len(samples) + 0.6)
        for row, label in enumerate(labels):
            centre, scale = _location_scale(samples[-1].column(label))
            for place, sample in enumerate(samples):
                height = row + gap * (place - (len(samples) - 1) / 2)
                _interval(axes, (sample.column(label) - centre) / scale, height, sample, named=row == 0)
            axes.annotate(
                f"{centre:.3g} ± {scale:.2g}", (1.0, row), xycoords=("axes fraction", "data"), xytext=(4, 0),
                textcoords="offset points", va="center", fontsize=9.5, color="#555555", annotation_clip=False,
            )  # fmt: skip
        axes.set_yticks(range(len(labels)), [shortened(label) for label in labels])
        axes.set_ylim(len(labels) - 0.4, -0.6)
        axes.axvline(0.0, color=MUTED, linewidth=0.8, zorder=0)
        axes.set_xlim(*_limits(axes))
        light_grid(axes, "x")
        axes.set_xlabel(f"difference from the mean, in sd, of {samples[-1].name}\nright: its mean ± sd, in own units")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=len(samples))
    return figure


def density_figure(samples: Sequence[Sample], labels: Sequence[str]) -> Figure:
    """Marginal densities of a few parameters.

    Args:
        samples: the guide first, the reference last.
        labels: the parameters, at most 6 of which are shown.
    """
    shown = list(labels)[:MAX_DENSITIES]
    columns = min(2, len(shown))
    rows = -(-len(shown) // columns)
    with drawing():
        figure, grid = new_figure(0.6 + 1.75 * rows, rows, columns, squeeze=False)
        for axes, label in zip(grid.flat, shown, strict=False):
            _densities(axes, samples, label)
        for axes in grid.flat[len(shown) :]:
            axes.set_visible(False)
        handles, names = grid.flat[0].get_legend_handles_labels()
        figure.legend(handles[::-1], names[::-1], loc="outside upper left", ncols=len(samples))
    return figure


def shortened(label: str) -> str:
    """A label that leaves room for the figure: the name gives way before the index, which tells rows apart."""
    if len(label) <= MAX_LABEL:
        return label
    name, bracket, index = label.partition("[")
    if bracket and len(index) <= MAX_LABEL - 6:
        return f"{name[: MAX_LABEL - len(index) - 2]}…[{index}"
    return f"{label[: MAX_LABEL - 1]}…" if not bracket else f"{name[:4]}…[{index[: MAX_LABEL - 8]}…]"


def _interval(axes: Axes, values: Float64Array, height: float, sample: Sample, *, named: bool) -> None:
    color = COLORS[sample.kind]
    low, high = np.quantile(values, OUTER)
    inner_low, inner_high = np.quantile(values, INNER)
    axes.plot([low, high], [height, height], color=color, linewidth=1.0, solid_capstyle="butt")
    axes.plot([inner_low, inner_high], [height, height], color=color, linewidth=2.8, solid_capstyle="butt")
    axes.plot(
        [float(values.mean())], [height], MARKERS[sample.kind], color="white", markeredgecolor=color, markersize=3.6,
        markeredgewidth=1.2, label=sample.name if named else None,
    )  # fmt: skip


def _densities(axes: Axes, samples: Sequence[Sample], label: str) -> None:
    low, high = _view([sample.column(label) for sample in samples])
    for sample in reversed(samples):
        values = sample.column(label)
        if np.ptp(values) <= 0 or not np.isfinite(values).all():
            axes.axvline(float(values[0]), color=COLORS[sample.kind], linewidth=1.6, label=sample.name)
            continue
        grid, density, _ = array_stats.kde(values, bw=_bandwidth(values), bound_correction=True, grid_len=GRID_SIZE)
        grid, density = np.asarray(grid), np.asarray(density)
        axes.plot(
            grid, density, color=COLORS[sample.kind], linestyle=LINES[sample.kind], linewidth=1.6, label=sample.name
        )
        if sample.kind in ("baseline", "pool"):
            axes.fill_between(grid, density, color=COLORS[sample.kind], alpha=0.12, linewidth=0)
    axes.set_xlim(low, high)
    axes.set_ylim(bottom=0.0)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.locator_params(axis="x", nbins=5)
    axes.set_title(shortened(label), loc="left")


def _bandwidth(values: Float64Array) -> float:
    """Silverman's rule of thumb for the narrowest quarter of the draws.

    The sd and the quartiles of draws with several modes measure the distance between them, and smooth them away.
    """
    ordered = np.sort(values)
    count = max(ordered.size // 4, 1)
    quarter = float((ordered[count:] - ordered[:-count]).min()) if ordered.size > count else 0.0
    scale = min(float(ordered.std()), quarter / QUARTER_WIDTH) if quarter > 0.0 else float(ordered.std())
    return 0.9 * scale * ordered.size**-0.2


def _view(columns: Sequence[Float64Array]) -> tuple[float, float]:
    """A range that shows every sample without the last of its outliers."""
    low = min(float(np.quantile(values, 0.002)) for values in columns)
    high = max(float(np.quantile(values, 0.995)) for values in columns)
    margin = 0.04 * max(high - low, 1e-12)
    return low - margin, high + margin


def _limits(axes: Axes) -> tuple[float, float]:
    low, high = axes.get_xlim()
    # an interval that runs far away must not squeeze all others
    return max(min(low, -2.4), -8.0), min(max(high, 2.4), 8.0)


def _location_scale(values: Float64Array) -> tuple[float, float]:
    scale = float(values.std(ddof=1)) if values.size > 1 else 0.0
    return float(values.mean()), scale if scale > 0 else 1.0
