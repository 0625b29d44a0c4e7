"""The guides that are fitted, and which faults are planted in which of them."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import ppl_models as ppl
from benchmarks.verdict_parts.plants import HALF_WIDTH, PLANTS, SHIFTED_HALF, SHIFTED_ONE
from benchmarks.verdict_parts.subject import Subject
from benchmarks.verdict_parts.wrong_scale import seen_from, wrongly_scaled
from ppl_models.inference import Fit

NONE = "none"
STOPPED, STOPPED_SILENT = "stopped_early", "stopped_early_silent"
SCALES = {"scaled_quarter": 0.25, "scaled_four": 4.0}
FAULTS = (NONE, *PLANTS, STOPPED, STOPPED_SILENT, *SCALES)
MAX_SECONDS = 60.0
"""A fit's patience."""
HANDWRITTEN = "handwritten"


@dataclass(frozen=True)
class Family:
    """A guide as it is fitted.

    Attributes:
        options: of `ppl_models.fit`.
        faults: those planted in it.
        problems: beginnings of the names of the only problems that it is fitted to; all where empty.
        early: `max_steps` of a fit that is stopped early.
    """

    options: Mapping[str, Any]
    faults: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    early: int = 1


EVERY_PLANT = (*PLANTS, STOPPED, STOPPED_SILENT, *SCALES)
COMPILED = ("banana", "two_modes_2d_80", "student_t3_5d", "funnel", "eight_schools", "lynx_ar2", "kidiq-kidscore_momiq")
"""Families that compile for tens of seconds are fitted to these."""
FAMILIES: Mapping[str, Family] = {
    "normal": Family({"guide": "normal", "method": "dadvi"}, (HALF_WIDTH, SHIFTED_ONE)),
    "full_rank": Family({"guide": "full_rank", "method": "batch_and_match"}, EVERY_PLANT),
    "full_rank_svi": Family({"guide": "full_rank"}, (STOPPED, STOPPED_SILENT), COMPILED, early=15),
    "student_t": Family({"guide": "full_rank_student_t", "method": "linear_response"}, (HALF_WIDTH, SHIFTED_HALF)),
    "pathfinder": Family({"guide": "pathfinder"}, (HALF_WIDTH, SHIFTED_HALF)),
    "laplace": Family({"guide": "laplace"}),
    HANDWRITTEN: Family({}, (HALF_WIDTH, STOPPED_SILENT), early=15),
    "realnvp": Family({"guide": "realnvp"}, (), ("banana", "two_modes_2d_80", "eight_schools_noncentered")),
}


def fit(label: str, subject: Subject, seed: int, fault: str = NONE) -> tuple[Fit, float]:
    """A fit and its seconds: of the right model, or wrongly scaled, or stopped early.

    Args:
        label: one of `FAMILIES`.
        subject: what is fitted.
        seed: of the fit.
        fault: those of `SCALES`, or `STOPPED`; others are planted later and make no difference here.
    """
    family, model = FAMILIES[label], subject.model
    guide = {"guide": subject.handwritten} if label == HANDWRITTEN else {}
    options = {"max_seconds": MAX_SECONDS, **family.options, **guide, "seed": seed}
    if fault == STOPPED:
        options["max_steps"] = family.early
    if fault in SCALES:
        model = wrongly_scaled(model, SCALES[fault])
    began = time.perf_counter()
    found = ppl.fit(model, subject.data, **options)
    seconds = time.perf_counter() - began
    return (seen_from(found, subject.model, subject.data) if fault in SCALES else found), seconds


def silenced(early: Fit, whole: Fit) -> Fit:
    """A fit that was stopped early, with all that a whole one says of its course."""
    said = {name: getattr(whole, name) for name in ("losses", "status", "constant_phase", "stages", "starts", "note")}
    return replace(early, **said, evidence=whole.evidence, config=whole.config)
