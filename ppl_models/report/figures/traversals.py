"""What each latent unit does to the data."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from ppl_models.report.figures.pictures import close_together, draw_datum, limits_of
from ppl_models.report.figures.style import COLORS, drawing, new_figure

MOST = 10


def traversal_figure(rows: ArrayLike, units: Sequence[str], steps: ArrayLike) -> Figure:
    """One line for each unit: E[x | z] as the unit goes from low to high, all others at the centre.

    Args:
        rows: shape (unit, step, feature); the first ten units are shown.
        units: their names.
        steps: where along the unit, in prior sds, shape (step,).
    """
    values = np.asarray(rows, dtype=float)[:MOST]
    places = np.asarray(steps, dtype=float)
    limits = limits_of(values)
    with drawing():
        figure, grid = new_figure(0.35 + 0.55 * len(values), len(values), len(places), squeeze=False)
        close_together(figure)
        for line, unit in enumerate(values):
            for column, row in enumerate(unit):
                draw_datum(grid[line, column], row, limits, COLORS["guide"])
            grid[line, 0].set_ylabel(units[line], rotation=0, ha="right", va="center")
        for column, place in enumerate(places):
            grid[0, column].set_title(_signed(place), fontsize=9)
    return figure


def _signed(place: float) -> str:
    """A place in sds: +0.75, +2.25, 0."""
    return f"{place:+.3g}".replace("-", "\N{MINUS SIGN}") if place else "0"
