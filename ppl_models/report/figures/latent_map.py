"""Where the data lie in latent space, with the uncertainty of each."""

from collections.abc import Sequence

import numpy as np
from matplotlib.collections import EllipseCollection
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from ppl_models.report.figures.style import COLORS, GRID, drawing, light_grid, new_figure


def latent_figure(
    means: ArrayLike,
    sds: ArrayLike,
    labels: Sequence[str],
    *,
    covariances: ArrayLike | None = None,
    groups: Sequence[object] | None = None,
) -> Figure:
    """Posterior means of two units, with an ellipse of one sd for each datum.

    Args:
        means: of q(z | x) in two units, shape (row, 2).
        sds: of the same.
        labels: names of the two units.
        covariances: of the two units, shape (row,), which tilt the ellipses; None draws them upright.
        groups: class of each row, for colours.
    """
    centres, widths = np.asarray(means, dtype=float), np.asarray(sds, dtype=float)
    mixed = np.zeros(len(centres)) if covariances is None else np.asarray(covariances, dtype=float)
    matrices = np.stack(
        [np.stack([widths[:, 0] ** 2, mixed], axis=1), np.stack([mixed, widths[:, 1] ** 2], axis=1)], axis=1
    )
    values, vectors = np.linalg.eigh(matrices)
    axes_lengths = 2.0 * np.sqrt(np.maximum(values, 0.0))
    angles = np.degrees(np.arctan2(vectors[:, 1, 1], vectors[:, 0, 1]))
    with drawing():
        figure, axes = new_figure(4.6)
        axes.plot(*_circle(), color=GRID, linewidth=1.2, zorder=0)
        for name, chosen, color in _coloured(len(centres), groups):
            axes.add_collection(
                EllipseCollection(
                    axes_lengths[chosen, 1],
                    axes_lengths[chosen, 0],
                    angles[chosen],
                    units="xy",
                    offsets=centres[chosen],
                    transOffset=axes.transData,
                    facecolor=color,
                    edgecolor=color,
                    alpha=0.22,
                    linewidth=0.5,
                )
            )
            axes.plot(*centres[chosen].T, "o", color=color, markersize=2.4, label=name)
        axes.set_xlabel(labels[0])
        axes.set_ylabel(labels[1])
        axes.set_aspect("equal", adjustable="datalim")
        axes.autoscale_view()
        light_grid(axes)
        if groups is not None:
            figure.legend(loc="outside right center", markerscale=2.0)
    return figure


def _coloured(number: int, groups: Sequence[object] | None) -> list[tuple[str, np.ndarray, str]]:
    if groups is None:
        return [("", np.ones(number, dtype=bool), COLORS["guide"])]
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    found = np.asarray([str(each) for each in groups])
    names = list(dict.fromkeys(sorted(found.tolist())))
    palette = colormaps["tab10" if len(names) <= 10 else "viridis"]
    return [
        (name, found == name, to_hex(palette(place % 10 if len(names) <= 10 else place / len(names))))
        for place, name in enumerate(names)
    ]


def _circle() -> np.ndarray:
    """One and two sds of a standard normal prior, with a break between them."""
    angle = np.linspace(0.0, 2.0 * np.pi, 200)
    one = np.stack([np.cos(angle), np.sin(angle)])
    return np.concatenate([one, np.full((2, 1), np.nan), 2.0 * one], axis=1)
