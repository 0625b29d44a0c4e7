"""Data drawn as what they are: square images as pictures, all other rows as lines."""

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ppl_models.report.figures.style import COLORS

Float64Array = NDArray[np.float64]
LEAST_SIDE = 4


def side_of(num_features: int) -> int | None:
    """Pixels along the side of a square image with so many features, None where they make none: 64 -> 8, 784 -> 28."""
    side = math.isqrt(num_features)
    return side if side >= LEAST_SIDE and side * side == num_features else None


def close_together(figure: Figure) -> None:
    """Leave next to no room between the axes of a figure."""
    layout: Any = figure.get_layout_engine()
    layout.set(w_pad=0.01, h_pad=0.01, wspace=0.0, hspace=0.0)


def limits_of(*arrays: Float64Array) -> tuple[float, float]:
    """One scale of brightness, or of height, for all that is drawn together."""
    low = min(float(np.nanmin(values)) for values in arrays)
    high = max(float(np.nanmax(values)) for values in arrays)
    return low, high if high > low else low + 1.0


def draw_datum(axes: Axes, values: Float64Array, limits: tuple[float, float], color: str = COLORS["baseline"]) -> None:
    """One row of data, shape (feature,), with nothing around it."""
    side = side_of(len(values))
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(side is not None)
        spine.set_color("#cccccc")
        spine.set_linewidth(0.6)
    if side is None:
        axes.plot(values, color=color, linewidth=0.9)
        axes.set_ylim(limits[0] - 0.05 * (limits[1] - limits[0]), limits[1] + 0.05 * (limits[1] - limits[0]))
        return
    axes.imshow(values.reshape(side, side), cmap="gray_r", vmin=limits[0], vmax=limits[1], interpolation="nearest")
