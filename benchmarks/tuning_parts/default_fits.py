"""(a) Fits with no option but the seed against their family's best, and (b) their draws against the reference."""

import time
from dataclasses import asdict
from typing import Any

import numpy as np

import ppl_models as ppl
from benchmarks.posteriordb import Problem
from benchmarks.tuning_parts.best_elbos import AUTOMATIC, BestElbos
from benchmarks.tuning_parts.gaussian import DENSE, constrained_moments, of_fit
from benchmarks.tuning_parts.reference import moment_errors
from benchmarks.tuning_parts.rules import Row, near_best, near_reference
from benchmarks.tuning_parts.target import Target
from ppl_models import Fit

NUM_DRAWS = 20_000


def default_fit(problem: Problem, guide: str, seed: int) -> tuple[Fit, float]:
    """A fit with no option but the seed, and the seconds of the call."""
    started = time.perf_counter()
    fit = ppl.fit(problem.model, problem.data, guide=guide, seed=seed)
    return fit, time.perf_counter() - started


def against_best(problem: Problem, target: Target, guide: str, fit: Fit, seconds: float, best: BestElbos) -> Row:
    """Row of part (a)."""
    deficit, error = best.offer(problem, target, guide, of_fit(fit), f"{AUTOMATIC}, seed {fit.config['seed']}")
    elbo = best.get(problem, target, guide).elbo
    return {
        "deficit": deficit,
        "deficit_mcse": error,
        "best": elbo,
        "passed": near_best(deficit, elbo),
        **described(fit),
        "seconds": seconds,
    }


def against_reference(problem: Problem, target: Target, fit: Fit, best: BestElbos) -> Row:
    """Row of part (b), with the errors that the family's best guide has."""
    posterior = fit.sample(NUM_DRAWS, seed=fit.config["seed"] + 1_000)["posterior"]
    drawn = {name: posterior[name].to_numpy()[0] for name in problem.summary}
    found = moment_errors(problem, {name: (value.mean(0), value.std(0)) for name, value in drawn.items()})
    gaussian = best.get(problem, target, DENSE).gaussian
    limit = moment_errors(problem, constrained_moments(target.program, gaussian, NUM_DRAWS))
    return {
        **found,
        "passed": near_reference(float(found["mean_error"]), float(found["sd_error"])),
        **{f"best_{name}": value for name, value in limit.items()},
        "best_passed": near_reference(float(limit["mean_error"]), float(limit["sd_error"])),
        "multimodal": problem.multimodal,
        "status": fit.status,
    }


def described(fit: Fit) -> dict[str, Any]:
    """What a fit says of itself."""
    return {
        "status": fit.status,
        "steps": fit.steps,
        "trial_steps": fit.config["trial_steps"],
        "particles": fit.config["num_particles"],
        "backend": fit.backend,
        "note": fit.note,
        "timing": {name: round(value, 3) for name, value in fit.timing.items()},
        "stages": [_finite(asdict(stage)) for stage in fit.stages[-8:]],
    }


def _finite(stage: dict[str, Any]) -> dict[str, Any]:
    return {name: None if not np.isfinite(value) else round(value, 6) for name, value in stage.items()}
