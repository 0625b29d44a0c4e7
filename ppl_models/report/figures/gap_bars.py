"""How far each datum's ELBO is from log p(x), and whose fault it is."""

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from ppl_models.report.figures.style import COLORS, MUTED, drawing, light_grid, new_figure


def gap_figure(amortisation: ArrayLike, approximation: ArrayLike, errors: ArrayLike | None = None) -> Figure:
    """The gaps of each datum, stacked, the largest first.

    Args:
        amortisation: best ELBO of the datum less its amortised ELBO, nats, shape (row,).
        approximation: log p(x) less the best ELBO, nats, shape (row,).
        errors: standard error of the sum, shape (row,).
    """
    first, second = (np.asarray(each, dtype=float) for each in (amortisation, approximation))
    order = np.argsort(-(first + second), kind="stable")
    first, second = first[order], second[order]
    with drawing():
        figure, axes = new_figure(3.4)
        places = np.arange(len(first))
        below = np.maximum(first, 0.0)
        axes.bar(
            places, first, width=1.0, color=COLORS["guide"], linewidth=0, label=f"amortisation, mean {first.mean():.2f}"
        )
        axes.bar(
            places, second, width=1.0, bottom=below, color=COLORS["psis"], linewidth=0,
            label=f"approximation, mean {second.mean():.2f}",
        )  # fmt: skip
        if errors is not None:
            spread = 2.0 * np.asarray(errors, dtype=float)[order]
            axes.vlines(places, first + second - spread, first + second + spread, color="#222222", linewidth=0.7)
        axes.axhline(0.0, color=MUTED, linewidth=0.8)
        axes.set_xlim(-0.7, len(first) - 0.3)
        axes.set_xlabel("datum, largest gap first")
        axes.set_ylabel("log p(x) \N{MINUS SIGN} ELBO (nats)")
        light_grid(axes, "y")
        figure.legend(loc="outside upper left", ncols=2)
    return figure
