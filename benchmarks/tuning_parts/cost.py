"""(e) Seconds of a fit without options beside those of one tuned by hand, taking turns in one process."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import ppl_models as ppl
from benchmarks import posteriordb
from benchmarks.tuning_parts.best_elbos import BestElbos, target_of
from benchmarks.tuning_parts.default_fits import described
from benchmarks.tuning_parts.gaussian import difference, of_fit
from benchmarks.tuning_parts.hand_tuned import COOLED, FIXED, METHODS, deficit_of, search, start_at
from benchmarks.tuning_parts.rules import TUNED_RATIO, Row
from ppl_models import Fit

CASES = (
    ("eight_schools-eight_schools_noncentered", "normal"),
    ("kidiq-kidscore_momiq", "full_rank"),
    ("earnings-logearn_height_male", "full_rank"),
    ("mesquite-logmesquite", "full_rank"),
    ("nes1972-nes", "full_rank"),
    ("arK-arK", "normal"),
    ("gp_pois_regr-gp_regr", "full_rank"),
    ("sblrc-blr", "full_rank"),
    ("hmm_example-hmm_example", "normal"),
    ("diamonds-diamonds", "full_rank"),
    ("breast_cancer_logistic", "full_rank"),
    ("sleepstudy_varying_intercepts", "normal"),
    ("diabetes_horseshoe", "normal"),
)
STANDARDISED = ("kidiq-", "earnings-", "mesquite-", "nes")
"""Regressions with flat priors on columns far from standard."""


def against_tuned(name: str, guide: str, folder: Path, rounds: int, best: BestElbos) -> Row:
    """Row of part (e)."""
    problem: Any = ppl.load(name) if name in ppl.names() else posteriordb.load(name, folder)
    target = target_of(problem)
    found = best.get(problem, target, guide)
    start = start_at(
        problem, target, found.gaussian, standardise=name.startswith(STANDARDISED) and guide == "full_rank"
    )
    tunings = {
        method: search(start, guide, method, lambda fit: deficit_of(fit, start, target, found.gaussian))
        for method in METHODS
    }
    # Fills the cache, from which "auto" then takes its steps; on its own it might prefer eager ones for ever.
    ppl.fit(problem.model, problem.data, guide=guide, seed=0, backend="native")
    seconds: dict[str, list[float]] = {side: [] for side in ("automatic", *METHODS)}
    fits: dict[str, Fit] = {}
    for seed in range(1, 1 + rounds):
        timed(
            "automatic", lambda seed=seed: ppl.fit(problem.model, problem.data, guide=guide, seed=seed), fits, seconds
        )
        for method, tuning in tunings.items():
            if tuning is not None:
                timed(method, lambda tuning=tuning, seed=seed: tuning.fit(start, guide, seed), fits, seconds)
    fit = fits["automatic"]
    medians = {side: float(np.median(values)) if values else None for side, values in seconds.items()}
    ratios = {method: medians["automatic"] / medians[method] if medians[method] else None for method in METHODS}
    return {
        "ratio": ratios[FIXED],
        "passed": ratios[FIXED] is not None and ratios[FIXED] <= TUNED_RATIO,
        "ratio_cooled": ratios[COOLED],
        "seconds": medians["automatic"],
        "tuned_seconds": medians[FIXED],
        "cooled_seconds": medians[COOLED],
        "rounds": {side: [round(value, 3) for value in values] for side, values in seconds.items()},
        "tuning": {method: None if t is None else f"{t.step_size:g} x {t.steps:,}" for method, t in tunings.items()},
        "tuned_timing": {side: rounded(fits[side]) for side in METHODS if side in fits},
        "deficit": difference(target.density, found.gaussian, of_fit(fit))[0],
        "latents": target.num_dims,
        **described(fit),
    }


def timed(side: str, make: Callable[[], Fit], fits: dict[str, Fit], seconds: dict[str, list[float]]) -> None:
    """Make a fit, and keep it and the seconds that the call took."""
    began = time.perf_counter()
    fits[side] = make()
    seconds[side].append(time.perf_counter() - began)


def rounded(fit: Fit) -> dict[str, float]:
    """Seconds by stage."""
    return {name: round(value, 3) for name, value in fit.timing.items()}
