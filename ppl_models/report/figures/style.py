"""Colours, sizes and the canvas that all figures share."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

# after Okabe and Ito's palette, which colour-blind readers can tell apart
COLORS = {"guide": "#0072B2", "psis": "#D55E00", "baseline": "#333333", "pool": "#007A5A", "scores": "#A34E84"}
LINES = {"guide": "-", "psis": (0, (5, 1.5)), "baseline": "-", "pool": "-", "scores": (0, (1.5, 1))}
MARKERS = {"guide": "o", "psis": "D", "baseline": "s", "pool": "s", "scores": "v"}
ACCENT, MUTED, GRID = "#009E73", "#8a8a8a", "#dddddd"

WIDTH = 5.2  # inches; text stays readable when a phone shows the figure at 350 points

SETTINGS: dict[str, Any] = {
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.labelsize": 11,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "legend.fontsize": 10,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.grid": False,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "path",
    "svg.hashsalt": "ppl-models",
}


@contextmanager
def drawing() -> Iterator[None]:
    """This library's settings for as long as a figure is drawn, whatever the user's are."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(SETTINGS)
        yield


def new_figure(height: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Figure, Any]:
    """A figure of the common width with its axes; not known to pyplot, so that nothing keeps it alive."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained", dpi=100)
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, **options)


def light_grid(axes: Axes, axis: Any = "both") -> None:
    """Faint lines behind the data."""
    axes.grid(True, axis=axis, color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)


def to_svg(figure: Figure) -> bytes:
    """The figure as SVG, the same bytes each time."""
    buffer = io.BytesIO()
    with drawing():
        # savefig would draw everything twice, to find a bounding box that is the figure's own
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None})
    FigureCanvasAgg(figure)
    return buffer.getvalue()
