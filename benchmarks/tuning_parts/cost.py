"""(e) Seconds of a fit without options beside those of one tuned by hand, taking turns in one process."""

import time
from pathlib import Path
from typing import Any

import numpy as np

import ppl_models as ppl
from benchmarks import posteriordb
from benchmarks.tuning_parts.best_elbos import BestElbos, target_of
from benchmarks.tuning_parts.default_fits import described
from benchmarks.tuning_parts.gaussian import difference, of_fit
from benchmarks.tuning_parts.hand_tuned import deficit_of, search, start_at
from benchmarks.tuning_parts.rules import TUNED_RATIO, Row

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
    tuning = search(start, guide, lambda fit: deficit_of(fit, start, target, found.gaussian))
    seconds: dict[str, list[float]] = {"automatic": [], "tuned": []}
    fits = {}
    ppl.fit(problem.model, problem.data, guide=guide, seed=0)  # fills the cache
    for seed in range(1, 1 + rounds):
        began = time.perf_counter()
        fits["automatic"] = ppl.fit(problem.model, problem.data, guide=guide, seed=seed)
        seconds["automatic"].append(time.perf_counter() - began)
        if tuning is None:
            continue
        began = time.perf_counter()
        fits["tuned"] = tuning.fit(start, guide, seed)
        seconds["tuned"].append(time.perf_counter() - began)
    fit = fits["automatic"]
    medians = {side: float(np.median(values)) if values else None for side, values in seconds.items()}
    ratio = medians["automatic"] / medians["tuned"] if medians["tuned"] else None
    return {
        "ratio": ratio,
        "passed": ratio is not None and ratio <= TUNED_RATIO,
        "seconds": medians["automatic"],
        "tuned_seconds": medians["tuned"],
        "rounds": {side: [round(value, 3) for value in values] for side, values in seconds.items()},
        "tuning": None if tuning is None else f"{tuning.method} {tuning.step_size:g} x {tuning.steps:,}",
        "tuned_timing": {name: round(v, 3) for name, v in fits["tuned"].timing.items()} if tuning else None,
        "deficit": difference(target.density, found.gaussian, of_fit(fit))[0],
        "latents": target.num_dims,
        **described(fit),
    }
