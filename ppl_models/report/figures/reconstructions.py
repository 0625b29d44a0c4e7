"""Rows of data beside their reconstructions."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from ppl_models.report.figures.pictures import close_together, draw_datum, limits_of
from ppl_models.report.figures.style import COLORS, drawing, new_figure

MOST = 10
NAMES = ("data", "mean", "sd")


def reconstruction_figure(
    observed: ArrayLike, mean: ArrayLike, sd: ArrayLike, labels: Sequence[object] | None = None
) -> Figure:
    """Data above, the mean of their reconstructions below, and its sd over draws of q(z | x) at the bottom.

    Args:
        observed: shape (row, feature); the first ten are shown, square images as pictures.
        mean: of E[x | z] over draws of q(z | x), same shape.
        sd: of the same.
        labels: names of the rows.
    """
    parts = [np.asarray(each, dtype=float)[:MOST] for each in (observed, mean, sd)]
    number = len(parts[0])
    shared = limits_of(parts[0], parts[1])
    scales = (shared, shared, (0.0, limits_of(parts[2])[1]))
    with drawing():
        figure, grid = new_figure(2.1, 3, number, squeeze=False)
        close_together(figure)
        for place, (name, values, limits) in enumerate(zip(NAMES, parts, scales, strict=True)):
            for column in range(number):
                draw_datum(
                    grid[place, column], values[column], limits, COLORS["guide"] if place else COLORS["baseline"]
                )
            grid[place, 0].set_ylabel(name, rotation=0, ha="right", va="center")
        for column, label in enumerate((labels or ())[:number]):
            grid[0, column].set_title(str(label), fontsize=8)
    return figure
