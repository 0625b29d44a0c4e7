"""The figures of one fit with the captions that say what to look for."""

import base64
from typing import TypedDict

import numpy as np
from matplotlib.figure import Figure

from ppl_models.diagnostics import khat_limit
from ppl_models.inference.methods import SVI
from ppl_models.report.evidence import Evidence, Sample
from ppl_models.report.figures import (
    choose_pair,
    density_figure,
    elbo_figure,
    forest_figure,
    pair_figure,
    predictive_figure,
    tail_figure,
    to_svg,
)

MAX_PARAMETERS, MAX_DENSITIES, MAX_SITES = 30, 6, 2


class Plate(TypedDict):
    """A figure for the page: an image as a data address, its size in CSS pixels, and its words."""

    title: str
    source: str
    width: int
    height: int
    caption: str


def plates(evidence: Evidence) -> list[Plate]:
    """The figures that say something about this fit."""
    fit, verdict, samples = evidence.fit, evidence.verdict, evidence.samples
    names = " / ".join(sample.name for sample in samples)
    found = [
        plate(
            "Marginals",
            forest_figure(samples, evidence.worst(MAX_PARAMETERS)),
            f"Means with 50 % and 94 % intervals, the worst parameter first: {names}. The intervals of one row should "
            "begin and end at the same places; where the first is shorter, the fit is too sure.",
        ),
        plate(
            "Worst marginal densities",
            density_figure(samples, evidence.worst(MAX_DENSITIES)),
            "The parameters that are furthest from the reference. Look for a missing tail, a missing second peak, or "
            "a curve that is too narrow.",
        ),
    ]
    if (chosen := _pair(evidence)) is not None:
        found.append(
            plate(
                "Pair",
                pair_figure(_shown_in_pair(evidence), *chosen),
                f"Draws of {chosen[1]} against {chosen[0]} on a log scale. A funnel narrows downwards: a guide that "
                "cannot narrow with it leaves the neck empty or overfills its sides."
                + (" Crosses are divergences of the sampler." if _diverged(evidence) else ""),
            )
        )
    found.append(
        plate(
            fit.objective[:1].upper() + fit.objective[1:],
            elbo_figure(fit.losses, fit.constant_phase, fit.stages, name=fit.objective),
            f"{'Evidence lower bound' if fit.objective == 'ELBO' else 'What is trained'} at each step. Dotted lines "
            "mark where a lower step size begins; in the shaded parts the fit was stationary and its iterates were "
            "averaged. The curve should be level there."
            if fit.method == SVI
            else f"What {fit.method} climbs at each of its own steps, which have no noise: level at the end.",
        )
    )
    if fit.has_density:
        found.append(
            plate(
                "Importance weights",
                tail_figure(evidence.log_ratio, verdict.khat, khat_limit(len(evidence.log_ratio))),
                "The right tail of the importance weights. A tail that falls faster than the dashed line can be "
                "corrected by importance sampling; one that falls more slowly cannot.",
            )
        )
    found += [
        plate(
            f"Predicted data: {predicted.site}",
            predictive_figure(predicted),
            "Data drawn from the fit beside the data. The observed line should stay within the bands; where it leaves "
            "them, the model (or the fit) misses something in the data.",
        )
        for predicted in evidence.predicted[:MAX_SITES]
        if np.isfinite(predicted.observed).any() and np.isfinite(predicted.draws).all()
    ]
    return found


def _pair(evidence: Evidence) -> tuple[str, str] | None:
    reference = evidence.reference
    positive = [label for label in evidence.positive if label in reference.labels]
    return choose_pair(reference, positive, [label for label in evidence.latents if label in reference.labels])


def _shown_in_pair(evidence: Evidence) -> tuple[Sample, Sample]:
    """The guide and the reference: three clouds cannot be told apart."""
    return evidence.samples[0], evidence.reference


def _diverged(evidence: Evidence) -> bool:
    diverging = evidence.reference.diverging
    return diverging is not None and bool(diverging.any())


def plate(title: str, figure: Figure, caption: str) -> Plate:
    """A figure with its caption, as the page takes it."""
    width, height = (round(96 * inches) for inches in figure.get_size_inches())
    source = "data:image/svg+xml;base64," + base64.b64encode(to_svg(figure)).decode("ascii")
    return {"title": title, "source": source, "width": width, "height": height, "caption": caption}
