"""The pair of parameters that shows a funnel: a positive one on a log scale against what it governs."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import rankdata

from ppl_models.report.evidence import Sample
from ppl_models.report.figures.marginals import shortened
from ppl_models.report.figures.style import COLORS, drawing, light_grid, new_figure

MIN_DEPENDENCE = 0.15
MAX_POINTS = 1_000
MAX_CANDIDATES = 500

Float64Array = NDArray[np.float64]


def choose_pair(sample: Sample, positive: Sequence[str], latents: Sequence[str]) -> tuple[str, str] | None:
    """The positive parameter and the latent that depends most on it.

    The dependence is the rank correlation of the one with the other's value or with its distance from its median,
    whichever is larger: the latter is what a funnel has.

    Args:
        sample: draws to measure the dependence on.
        positive: labels of the positive scalar latents.
        latents: labels of all scalar latents.

    Returns:
        The labels (positive one, other), or None where no pair depends by more than 0.15.
    """
    best: tuple[float, str, str] | None = None
    for scale in positive:
        ranks = _standardised(rankdata(sample.column(scale)))
        for label in [label for label in latents if label != scale][:MAX_CANDIDATES]:
            values = sample.column(label)
            dependence = max(_dependence(ranks, values), _dependence(ranks, np.abs(values - np.median(values))))
            if best is None or dependence > best[0]:
                best = dependence, scale, label
    return None if best is None or best[0] < MIN_DEPENDENCE else best[1:]


def pair_figure(samples: Sequence[Sample], scale: str, label: str) -> Figure:
    """Draws of two parameters, the samples overlaid, the first on a log scale; divergences of the baseline marked.

    Args:
        samples: the guide first, the reference last.
        scale: label of the positive parameter, on the vertical axis.
        label: label of the other one.
    """
    with drawing():
        figure, axes = new_figure(4.4)
        reference, guide = samples[-1], samples[0]
        for sample, order in ((reference, 1), (guide, 2)):
            chosen = _thinned(len(sample.values))
            axes.scatter(
                sample.column(label)[chosen], sample.column(scale)[chosen], s=7, color=COLORS[sample.kind],
                alpha=0.35, linewidths=0, zorder=order, rasterized=True,
            )  # fmt: skip
            axes.scatter([], [], s=26, color=COLORS[sample.kind], label=sample.name)
        if reference.diverging is not None and reference.diverging.any():
            at = np.flatnonzero(reference.diverging)
            axes.scatter(
                reference.column(label)[at], reference.column(scale)[at], s=34, marker="x", color=COLORS["psis"],
                linewidths=1.3, zorder=3, label=f"divergences ({len(at):,})",
            )  # fmt: skip
        axes.set_yscale("log")
        axes.set_xlabel(shortened(label))
        axes.set_ylabel(f"{shortened(scale)} (log scale)")
        low = min(np.quantile(sample.column(scale), 0.0005) for sample in (reference, guide))
        high = max(np.quantile(sample.column(scale), 0.9995) for sample in (reference, guide))
        if 0 < low < high:
            axes.set_ylim(low / 1.3, high * 1.3)
        light_grid(axes)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=3)
    return figure


def _dependence(ranks: Float64Array, values: Float64Array) -> float:
    return abs(float((ranks * _standardised(rankdata(values))).mean()))


def _standardised(values: Float64Array) -> Float64Array:
    spread = values.std()
    return (values - values.mean()) / spread if spread > 0 else np.zeros_like(values)


def _thinned(num_draws: int) -> NDArray[np.intp]:
    return np.unique(np.linspace(0, num_draws - 1, min(num_draws, MAX_POINTS)).astype(np.intp))
