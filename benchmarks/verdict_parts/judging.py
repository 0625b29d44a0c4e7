"""One case in a worker's process: the guide is fitted, the fault planted, the draws held against the truth, judged."""

import math
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import ppl_models as ppl
from benchmarks.accuracy_parts.against_reference import or_none
from benchmarks.verdict_parts import families, problems
from benchmarks.verdict_parts.families import NONE, SCALES, STOPPED, STOPPED_SILENT
from benchmarks.verdict_parts.plants import PLANTS, plant
from benchmarks.verdict_parts.subject import Subject
from benchmarks.verdict_parts.truth import true_errors
from ppl_models.diagnostics import Check, Verdict
from ppl_models.errors import PPLError
from ppl_models.inference import Fit

Block = Callable[[int], dict[str, Any]]
LONGEST_TEXT = 200
DIGITS = 4
_subjects: dict[str, Subject] = {}
_fits: dict[tuple[Any, ...], tuple[Fit, float]] = {}


def prepare(problem: str, folder: str, references: str) -> Block:
    """Load a problem, so that its reference is there; the block has nothing to do."""
    _load(problem, folder, references)
    return lambda seed: {}


def case(problem: str, guide: str, fault: str, folder: str, references: str) -> Block:
    """A block that judges a guide with a fault on a problem; what it fitted is kept for the next fault."""
    subject = _load(problem, folder, references)

    def block(seed: int) -> dict[str, Any]:
        warnings.simplefilter("ignore")
        try:
            return row(subject, guide, fault, seed)
        except PPLError as error:
            return {"failed": f"{type(error).__name__}: {error}"[:LONGEST_TEXT]}

    return block


def row(subject: Subject, guide: str, fault: str, seed: int) -> dict[str, Any]:
    """All that is kept of a case, or why there is nothing to judge."""
    fit, fit_seconds = faulty(subject, guide, fault, seed)
    if fault in PLANTS and not fit.has_density:
        return {"failed": f"no fault can be planted: the fit is a point ({fit.note})"[:LONGEST_TEXT]}
    draws = fit.sample(subject.num_truth, seed=seed + 1_000)["posterior"]
    errors = true_errors(subject, {name: draws[name].to_numpy()[0] for name in subject.moments})
    alone, seconds = _timed(lambda: ppl.check(fit, seed=seed))
    beside, baseline_seconds = _timed(lambda: ppl.check(fit, baseline=subject.baseline(), seed=seed))
    return {
        "group": subject.group,
        "status": fit.status,
        **{name: _rounded(value) for name, value in errors.items()},
        "verdict": alone.verdict,
        "baseline_verdict": beside.verdict,
        "khat": _rounded(alone.khat),
        "checks": checks_of(alone),
        "baseline_failed": [check.name for check in beside.checks if check.passed is False],
        "reference": beside.reference,
        "fit_seconds": round(fit_seconds, 3),
        "check_seconds": round(seconds, 3),
        "baseline_seconds": round(baseline_seconds, 3),
        "seconds": {name: round(float(value), 4) for name, value in dict(alone.seconds).items()},
    }


def faulty(subject: Subject, guide: str, fault: str, seed: int) -> tuple[Fit, float]:
    """The fit that has the fault, and the seconds of its fitting."""
    if fault in (NONE, STOPPED, *SCALES):
        return _fitted(subject, guide, seed, fault)
    if fault == STOPPED_SILENT:
        early, seconds = _fitted(subject, guide, seed, STOPPED)
        return families.silenced(early, _fitted(subject, guide, seed, NONE)[0]), seconds
    fit, seconds = _fitted(subject, guide, seed, NONE)
    return (plant(fit, fault, seed=seed, mode=subject.mode) if fit.has_density else fit), seconds


def checks_of(verdict: Verdict) -> dict[str, list[float | bool | None]]:
    """Check -> value, limit and whether it was passed; of two of one name the one that came off worse."""
    rank = {False: 0, None: 1, True: 2}
    worst: dict[str, Check] = {}
    for check in verdict.checks:
        kept = worst.setdefault(check.name, check)
        if rank[check.passed] < rank[kept.passed]:
            worst[check.name] = check
    return {name: [_rounded(check.value), _rounded(check.limit), check.passed] for name, check in worst.items()}


def _load(problem: str, folder: str, references: str) -> Subject:
    if problem not in _subjects:
        _subjects.clear()
        _subjects[problem] = problems.load(problem, Path(folder) if folder else None, Path(references))
    return _subjects[problem]


def _fitted(subject: Subject, guide: str, seed: int, fault: str) -> tuple[Fit, float]:
    key = (subject.name, guide, seed)
    if any(kept[:3] != key for kept in _fits):
        _fits.clear()
    if (*key, fault) not in _fits:
        _fits[*key, fault] = families.fit(guide, subject, seed, fault)
    return _fits[*key, fault]


def _timed(call: Callable[[], Verdict]) -> tuple[Verdict, float]:
    began = time.perf_counter()
    return call(), time.perf_counter() - began


def _rounded(value: Any) -> Any:
    if not isinstance(value, float | np.floating):
        return value
    plain = or_none(float(value))
    return plain if not plain else round(plain, DIGITS - 1 - math.floor(math.log10(abs(plain))))
