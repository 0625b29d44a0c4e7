"""(c) The same regressions in other units: their fits, brought back to the first units, beside the fit made there."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import ppl_models as ppl
from benchmarks import posteriordb
from benchmarks.tuning_parts.default_fits import described
from benchmarks.tuning_parts.gaussian import Gaussian, difference, of_fit
from benchmarks.tuning_parts.rescaled import in_first_units, rescaled, site_factors, units
from benchmarks.tuning_parts.rules import BEST_NATS, Row, near_reference
from benchmarks.tuning_parts.target import Target
from ppl_models import Fit

CATALOGUE = ("breast_cancer_logistic",)
REGRESSIONS = (
    "diamonds-diamonds",
    "earnings-logearn_height_male",
    "kidiq-kidscore_momiq",
    "kidiq_with_mom_work-kidscore_interaction_c",
    "mesquite-logmesquite",
    "nes1972-nes",
    "sblrc-blr",
    *CATALOGUE,
)
VARIANTS = ("up", "down", "mixed")


@dataclass(frozen=True)
class Regression:
    """A regression of `y` on `x`, with its fit in the first units.

    Attributes:
        name: its name in posteriordb or the catalogue.
        model: called with `data`.
        data: with covariates `x` and response `y`.
        fit: the fit without options.
        gaussian: what it found.
        target: its log density.
    """

    name: str
    model: Callable[..., Any]
    data: Mapping[str, Any]
    fit: Fit
    gaussian: Gaussian
    target: Target


def regression(name: str, folder: Path, guide: str, seed: int) -> Regression:
    problem = ppl.load(name) if name in CATALOGUE else posteriordb.load(name, folder)
    fit = ppl.fit(problem.model, problem.data, guide=guide, seed=seed)
    return Regression(name, problem.model, problem.data, fit, of_fit(fit), Target(fit.program))


def in_other_units(first: Regression, variant: str) -> Row:
    """Row of part (c)."""
    program = first.fit.program
    found = units(variant, first.data["x"], continuous=first.name not in CATALOGUE)
    factors = site_factors(list(program.slices), found)
    model, data = rescaled(first.model, first.data, found, factors)
    started = time.perf_counter()
    fit = ppl.fit(model, data, guide=first.fit.guide_name, seed=first.fit.config["seed"])
    seconds = time.perf_counter() - started
    gaussian = in_first_units(program, of_fit(fit), factors)
    deficit, error = difference(first.target.density, first.gaussian, gaussian)
    away = float(np.max(np.abs(gaussian.mean - first.gaussian.mean) / first.gaussian.scale))
    ratio = float(np.max(np.abs(gaussian.scale / first.gaussian.scale - 1.0)))
    return {
        "deficit": deficit,
        "deficit_mcse": error,
        "mean_error": away,
        "sd_error": ratio,
        "passed": abs(deficit) <= BEST_NATS and near_reference(away, ratio),
        **described(fit),
        "seconds": seconds,
        "first_status": first.fit.status,
        "first_steps": first.fit.steps,
    }
