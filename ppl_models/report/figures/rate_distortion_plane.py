"""The rate-distortion plane."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ppl_models.diagnostics import RateDistortion, rate_distortion_curve
from ppl_models.report.figures.style import COLORS, MUTED, drawing, light_grid, new_figure


def rate_distortion_figure(points: Mapping[str, RateDistortion]) -> Figure:
    """Distortion against rate of one fit or several, with two standard errors, and lines of equal ELBO.

    Args:
        points: name -> where the fit stands.
    """
    table = rate_distortion_curve(points)
    rate, distortion = table["rate"].to_numpy(), table["distortion"].to_numpy()
    with drawing():
        figure, axes = new_figure(3.6)
        if len(table) > 1:
            axes.plot(rate, distortion, color=COLORS["guide"], linewidth=1.2, alpha=0.5)
        axes.errorbar(
            rate, distortion, 2.0 * table["distortion_se"], 2.0 * table["rate_se"], fmt="o", color=COLORS["guide"],
            markersize=5, linewidth=1.2,
        )  # fmt: skip
        for name, one, other in zip(table.index, rate, distortion, strict=True):
            axes.annotate(str(name), (one, other), xytext=(6, 6), textcoords="offset points", fontsize=9.5)
        axes.set_xlim(*_view(rate))
        axes.set_ylim(*_view(distortion))
        _equal_elbo(axes)
        axes.set_xlabel("rate, KL(q(z | x) || p(z)) (nats per datum)")
        axes.set_ylabel("distortion, \N{MINUS SIGN}E log p(x | z)\n(nats per datum)")
        light_grid(axes)
    return figure


def _view(values: np.ndarray) -> tuple[float, float]:
    """A range with room around the points, for labels."""
    room = max(0.3 * float(np.ptp(values)), 0.1 * float(np.abs(values).max()), 1e-3)
    return float(values.min()) - room, float(values.max()) + room


def _equal_elbo(axes: Axes) -> None:
    """Lines of slope -1, each named where it leaves the picture to the right or below."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    for total in np.linspace(left + low, right + high, 7)[1:-1]:
        axes.plot([left, right], [total - left, total - right], color=MUTED, linewidth=0.8, linestyle=":", zorder=0)
        x = min(right, total - low)
        axes.annotate(
            f"{-total:.1f}".replace("-", "\N{MINUS SIGN}"),
            (x, total - x),
            xytext=(-2, 2),
            textcoords="offset points",
            fontsize=8,
            color=MUTED,
            ha="right",
            va="bottom",
        )
    axes.annotate("dotted: equal ELBO", (1.0, 1.01), xycoords="axes fraction", ha="right", fontsize=9, color=MUTED)
    axes.set_xlim(left, right)
    axes.set_ylim(low, high)
