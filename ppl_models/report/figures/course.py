"""The course of the ELBO."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from numpy.typing import ArrayLike, NDArray

from ppl_models.inference import Stage
from ppl_models.report.figures.style import COLORS, GRID, MUTED, drawing, light_grid, new_figure

Float64Array = NDArray[np.float64]


def elbo_figure(
    losses: ArrayLike,
    constant_phase: tuple[int, int] | None = None,
    stages: Sequence[Stage] = (),
    *,
    name: str = "ELBO",
) -> Figure:
    """The ELBO at each step: the whole course, logarithmic away from its end, and the last part on a linear scale.

    Args:
        losses: negative ELBO in nats, one per step, shape (step,).
        constant_phase: first and one past the last step at the last fixed step size; shaded where there are no stages.
        stages: a fit's `stages`. The windows in which it was stationary, over which its iterates were averaged, are
            shaded; lines mark where each step size begins, with its value, and where the fit stopped.
        name: what the losses are the negative of: a fit's `objective`.
    """
    elbo = -np.asarray(losses, dtype=float)
    elbo = elbo[np.isfinite(elbo)]
    with drawing():
        figure, (whole, end) = new_figure(4.6, 2, 1, height_ratios=(1.0, 1.0))
        if not elbo.size:
            whole.text(0.5, 0.5, "no finite loss", ha="center", transform=whole.transAxes)
            return figure
        smooth = _smoothed(elbo)
        _draw_whole(whole, elbo, smooth)
        _draw_end(end, elbo, smooth, constant_phase)
        whole.set_ylabel(f"{name} less its\nfinal value (nats)")
        end.set_ylabel(f"{name} (nats),\nlast part")
        for axes in (whole, end):
            if stages:
                _mark_stages(axes, stages, elbo.size)
            else:
                _mark_phase(axes, constant_phase)
            light_grid(axes, "y")
        whole.legend(*whole.get_legend_handles_labels(), loc="lower right")
        end.set_xlabel("SVI step")
    return figure


def _draw_whole(axes: Axes, elbo: Float64Array, smooth: Float64Array) -> None:
    steps = np.arange(elbo.size)
    final = float(np.median(elbo[-max(elbo.size // 20, 1) :]))
    noise = float(np.quantile(np.abs(elbo[-max(elbo.size // 4, 1) :] - final), 0.9))
    threshold = 10.0 ** math.ceil(math.log10(max(noise, 1e-3)))
    axes.plot(steps, elbo - final, color=COLORS["guide"], alpha=0.25, linewidth=0.6, label="each step")
    axes.plot(steps, smooth - final, color=COLORS["guide"], linewidth=1.6, label="running mean")
    axes.set_yscale("symlog", linthresh=threshold)
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.6g}"))
    axes.axhline(0.0, color=MUTED, linewidth=0.8)


def _draw_end(axes: Axes, elbo: Float64Array, smooth: Float64Array, phase: tuple[int, int] | None) -> None:
    last_constant = phase[1] if phase else elbo.size
    first = min(last_constant // 2, elbo.size // 2)
    steps = np.arange(first, elbo.size)
    shown, curve = elbo[first:], smooth[first:]
    axes.plot(steps, shown, color=COLORS["guide"], alpha=0.25, linewidth=0.6)
    axes.plot(steps, curve, color=COLORS["guide"], linewidth=1.6)
    low, high = np.quantile(shown, [0.01, 0.99])
    margin = 0.15 * max(high - low, 1e-6)
    axes.set_ylim(low - margin, high + margin)
    axes.set_xlim(first, max(elbo.size - 1, first + 1))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.6g}"))


def _mark_phase(axes: Axes, phase: tuple[int, int] | None) -> None:
    if phase is None or phase[1] <= phase[0]:
        return
    low, high = axes.get_xlim()
    axes.axvspan(max(phase[0], low), min(phase[1], high), color=GRID, alpha=0.45, linewidth=0, label="fixed step size")
    axes.set_xlim(low, high)


def _mark_stages(axes: Axes, stages: Sequence[Stage], num_steps: int) -> None:
    low, high = axes.get_xlim()
    label: str | None = "stationary, averaged"
    for stage in stages:
        if stage.first < stage.stationary < stage.last:
            axes.axvspan(
                max(stage.stationary, low), max(stage.last, low), color=GRID, alpha=0.6, linewidth=0, label=label
            )
            label = None
        if stage.first >= low:
            axes.axvline(stage.first, color=MUTED, linewidth=0.8, linestyle=":")
            axes.annotate(
                f"{stage.step_size:.2g}",
                (stage.first, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(0, 2),
                textcoords="offset points",
                ha="center",
                color=MUTED,
                fontsize="x-small",
            )
    axes.axvline(num_steps - 1, color=COLORS["guide"], linewidth=1.0, linestyle="--", label="stopped")
    axes.set_xlim(low, max(high, num_steps - 1))


def _smoothed(values: Float64Array) -> Float64Array:
    """Running mean over about a fiftieth of the steps, the ends averaged over what is there."""
    half = max(values.size // 100, 1)
    total = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(values.size)
    start, stop = np.maximum(index - half, 0), np.minimum(index + half + 1, values.size)
    return (total[stop] - total[start]) / (stop - start)
