"""This library: one fit, first with nothing compiled, and again with what the first one left."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

import ppl_models as ppl
from benchmarks import posteriordb
from benchmarks.accuracy_parts.against_reference import NUM_DRAWS, errors, finite, khat, or_none
from ppl_models.engine.cache import cache_directory
from ppl_models.errors import PPLError, UnknownNameError

Block = Callable[[int], dict[str, Any]]
NOT_THERE = "this version of the library has no such method"
LONGEST_TEXT = 300
WORTH_ANOTHER = 60.0
"""Seconds up to which a fit is repeated also where nothing was compiled: first calls import and trace."""


def fit(problem: str, folder: str, options: Mapping[str, Any]) -> Block:
    """A block that fits with those options of `ppl.fit`; the seed apart, all else is left to the library."""
    found = posteriordb.load(problem, folder)

    def block(seed: int) -> dict[str, Any]:
        try:
            return _row(found, options, seed)
        except UnknownNameError:
            return {"status": NOT_THERE}
        except TypeError as error:
            if "unexpected keyword argument" in str(error):
                return {"status": NOT_THERE}
            raise
        except PPLError as error:
            return {"status": "refused", "note": str(error)[:LONGEST_TEXT], "accurate": False, "claims": False}

    return block


def _row(problem: posteriordb.Problem, options: Mapping[str, Any], seed: int) -> dict[str, Any]:
    fitted, seconds = _timed(lambda: ppl.fit(problem.model, problem.data, seed=seed, **options))
    row = {"seconds": seconds, "seconds_warm": seconds, "timing": _rounded(getattr(fitted, "timing", {}))}
    if seconds < WORTH_ANOTHER or _anything(cache_directory()):
        fitted, row["seconds_warm"] = _timed(lambda: ppl.fit(problem.model, problem.data, seed=seed, **options))
    tree, row["sample_seconds"] = _timed(lambda: fitted.sample(NUM_DRAWS, seed=seed + 1_000))
    posterior = tree["posterior"]
    draws = {name: posterior[name].to_numpy().reshape(-1, *posterior[name].shape[2:]) for name in problem.summary}
    return {
        **row,
        **errors(problem, draws),
        "khat": _khat(fitted, seed),
        **_evaluations(fitted),
        "status": fitted.status,
        "claims": claim if isinstance(claim := getattr(fitted, "passed", None), bool) else None,
        "rungs": [_described(rung) for rung in getattr(fitted, "rungs", None) or ()],
        "steps": int(fitted.steps),
        "backend": fitted.backend,
        "note": fitted.note[:LONGEST_TEXT],
    }


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    return call(), time.perf_counter() - started


def _anything(folder: Path) -> bool:
    """Whether something was compiled, so that a second fit may be faster."""
    return folder.is_dir() and any(path.suffix == ".so" for path in folder.rglob("*"))


def _evaluations(fitted: Any) -> dict[str, Any]:
    """Log densities evaluated, each gradient as one; for fits that do not count, steps times particles."""
    counted = getattr(fitted, "evaluations", None)
    if counted is not None:
        return {"evaluations": int(counted), "evaluations_note": "counted"}
    steps = fitted.steps + fitted.config.get("trial_steps", 0)
    particles = fitted.config.get("num_particles") or 1
    return {"evaluations": int(steps * particles), "evaluations_note": "steps x particles, without the first look"}


def _khat(fitted: Any, seed: int) -> float | None:
    if getattr(fitted, "point", False):
        return None
    reported = getattr(fitted, "khat", None)
    if reported is not None:
        return or_none(float(reported))
    try:
        return khat(np.asarray(fitted.log_ratio(NUM_DRAWS, seed=seed + 2_000)))
    except (PPLError, NotImplementedError, AttributeError):  # draws of a chain have no density of their own
        return None


def _described(rung: Any) -> dict[str, Any]:
    """What a rung says of itself, as far as JSON has it."""
    fields = asdict(rung) if is_dataclass(rung) and not isinstance(rung, type) else {"text": str(rung)}
    plain = {name: value for name, value in fields.items() if isinstance(value, str | bool | int | float | None)}
    shortened = {name: value[:LONGEST_TEXT] if isinstance(value, str) else value for name, value in plain.items()}
    return finite(shortened or {"text": str(rung)[:LONGEST_TEXT]})


def _rounded(timing: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in timing.items()}
