"""Ranks of simulation-based calibration."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from ppl_models.diagnostics import ecdf_band
from ppl_models.diagnostics.calibration import sbc_p_values
from ppl_models.diagnostics.calibration.ecdf_band import thresholds
from ppl_models.report.figures.style import COLORS, GRID, MUTED, drawing, light_grid, new_figure

NAMED = 4
PALETTE = (COLORS["psis"], COLORS["guide"], COLORS["scores"], COLORS["pool"])


def rank_figure(ranks: ArrayLike, num_draws: int, labels: Sequence[str], *, probability: float = 0.95) -> Figure:
    """ECDF of each quantity's ranks less that of uniform ranks, with their simultaneous band.

    Args:
        ranks: whole numbers from 0 to `num_draws`, shape (simulation, quantity).
        num_draws: draws that were ranked among.
        labels: names of the quantities; the four furthest from uniform are named.
        probability: that uniform ranks of one quantity stay within the band.
    """
    values = np.asarray(ranks)
    below = thresholds(num_draws)
    expected = below / (num_draws + 1.0)
    counts = np.array([np.searchsorted(column, below) for column in np.sort(values, axis=0).T])
    low, high = ecdf_band(len(values), expected, probability=probability)
    order = np.argsort(sbc_p_values(values, num_draws), kind="stable")
    with drawing():
        figure, axes = new_figure(3.4)
        axes.fill_between(
            expected, low / len(values) - expected, high / len(values) - expected, color=GRID, alpha=0.7, linewidth=0,
            label=f"{100 * probability:.0f} % band",
        )  # fmt: skip
        axes.axhline(0.0, color=MUTED, linewidth=0.8)
        for place, quantity in enumerate(order[::-1]):
            rank = len(order) - 1 - place
            named = rank < NAMED
            axes.plot(
                expected,
                counts[quantity] / len(values) - expected,
                color=PALETTE[rank] if named else MUTED,
                linewidth=1.5 if named else 0.7,
                label=labels[quantity] if named else None,
            )
        axes.set_xlabel("rank of the truth among the draws, as a share")
        axes.set_ylabel("share of ranks below,\nless that of uniform ranks")
        axes.set_xlim(0.0, 1.0)
        light_grid(axes)
        handles, names = axes.get_legend_handles_labels()
        figure.legend(handles[:1] + handles[:0:-1], names[:1] + names[:0:-1], loc="outside upper left", ncols=3)
    return figure
