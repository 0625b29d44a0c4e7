"""Rows that the model generates."""

import math

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from ppl_models.report.figures.pictures import close_together, draw_datum, limits_of
from ppl_models.report.figures.style import COLORS, drawing, new_figure

COLUMNS, MOST = 10, 40


def generation_figure(rows: ArrayLike) -> Figure:
    """Rows at latents drawn from the prior.

    Args:
        rows: E[x | z], or draws of x, shape (draw, feature); the first 40 are shown, square images as pictures.
    """
    values = np.asarray(rows, dtype=float)[:MOST]
    lines = math.ceil(len(values) / COLUMNS)
    limits = limits_of(values)
    with drawing():
        figure, grid = new_figure(0.1 + 0.53 * lines, lines, COLUMNS, squeeze=False)
        close_together(figure)
        for axes, row in zip(grid.flat, values, strict=False):
            draw_datum(axes, row, limits, COLORS["guide"])
        for axes in grid.flat[len(values) :]:
            axes.set_visible(False)
    return figure
