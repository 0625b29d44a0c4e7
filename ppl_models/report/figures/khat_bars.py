"""k-hat of each datum."""

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from ppl_models.report.figures.style import ACCENT, COLORS, drawing, light_grid, new_figure


def khat_figure(khat: ArrayLike, limit: float) -> Figure:
    """k-hat of each datum, the largest first, with the limit beyond which weights cannot be used.

    Args:
        khat: shape (row,); NaN and infinities are left out, and counted.
        limit: of the number of draws.
    """
    values = np.asarray(khat, dtype=float)
    shown = np.sort(values[np.isfinite(values)])[::-1]
    with drawing():
        figure, axes = new_figure(3.0)
        places = np.arange(len(shown))
        beyond = shown > limit
        axes.vlines(places, 0.0, shown, color="#d7dbe0", linewidth=1.0)
        for chosen, color, name in (
            (~beyond, COLORS["guide"], f"{int((~beyond).sum())} within the limit"),
            (beyond, COLORS["psis"], f"{int(beyond.sum())} beyond it"),
        ):
            if chosen.any():
                axes.plot(places[chosen], shown[chosen], "o", color=color, markersize=3.2, label=name)
        axes.axhline(limit, color=ACCENT, linestyle=(0, (4, 2)), linewidth=1.4, label=f"limit {limit:.2f}")
        axes.axhline(0.0, color="#555555", linewidth=0.8)
        missing = len(values) - len(shown)
        axes.set_xlabel("datum, heaviest weights first" + (f"; {missing} not finite" if missing else ""))
        axes.set_ylabel("k-hat of q(z | x)")
        light_grid(axes, "y")
        figure.legend(loc="outside upper left", ncols=3)
    return figure
