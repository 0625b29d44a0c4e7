"""How far draws lie from posteriordb's reference, as one row.

Means and standard deviations are held against the reference's moments from all of its 10,000 draws (bulk ESS above
9,000), so that each mean has a Monte Carlo error of about 0.01 sd on either side, and each sd one of about 0.7 %; a
method that were exact would show largest errors of 0.02 to 0.04 over a problem's parameters. The Wasserstein distance
is taken to the 2,000 reference draws that are at hand: two exact samples of 10,000 and 2,000 lie about 0.03 sd apart.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from benchmarks.posteriordb import Problem
from benchmarks.tuning_parts.reference import moment_errors
from benchmarks.tuning_parts.rules import near_reference
from ppl_models.diagnostics.comparison import compare
from ppl_models.diagnostics.khat import pareto_khat
from ppl_models.errors import DataError

NUM_DRAWS = 10_000
"""Draws of a fit that are compared."""

Draws = Mapping[str, np.ndarray]
"""Parameter -> draws of one chain, shape (draw, *shape)."""


def errors(problem: Problem, draws: Draws) -> dict[str, Any]:
    """The row's figures of accuracy.

    Args:
        problem: its reference is the truth.
        draws: every parameter of the reference; others are left alone.

    Returns:
        `mean_error` (largest, in reference sds) and `mean_worst` (which parameter), `sd_error` (largest distance of a
        ratio of sds from one) and `sd_worst`, `log_sd_ratio` (largest absolute), `wasserstein` (largest, in sds) and
        `wasserstein_worst`, and `accurate`: every mean within 0.1 sd and every sd within 10 %. None is what is not
        finite.
    """
    shapes = {name: mean.shape for name, (mean, _) in problem.summary.items()}
    kept = {name: np.asarray(draws[name], dtype=float).reshape(-1, *shape) for name, shape in shapes.items()}
    moments = {name: (value.mean(axis=0), _sd(value)) for name, value in kept.items()}
    found = moment_errors(problem, moments)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = [np.abs(np.log(moments[name][1] / sd)) for name, (_, sd) in problem.summary.items()]
    return {
        **finite(found),
        "log_sd_ratio": or_none(float(np.max([np.max(ratio) for ratio in ratios]))),
        **_wasserstein(problem, kept),
        "accurate": near_reference(float(found["mean_error"]), float(found["sd_error"])),
    }


def _sd(draws: np.ndarray) -> np.ndarray:
    """Standard deviation of each entry; exactly zero where the draws are one point."""
    return np.where(np.ptp(draws, axis=0) == 0.0, 0.0, draws.std(axis=0, ddof=1))


def _wasserstein(problem: Problem, draws: Draws) -> dict[str, Any]:
    reference = {name: values for name, values in problem.reference.items() if name in draws}
    try:
        table = compare(_dataset({name: draws[name][None] for name in reference}), _dataset(reference))
    except DataError:
        return {"wasserstein": None, "wasserstein_worst": ""}
    worst = str(table["wasserstein_sd"].idxmax())
    return {"wasserstein": or_none(float(table["wasserstein_sd"][worst])), "wasserstein_worst": worst}


def _dataset(draws: Draws) -> xr.Dataset:
    variables = {
        name: (("chain", "draw", *(f"{name}_dim_{axis}" for axis in range(values.ndim - 2))), values)
        for name, values in draws.items()
    }
    return xr.Dataset(variables)


def khat(log_ratio: np.ndarray) -> float | None:
    """Pareto k-hat of log p - log q in nats, shape (draw,); None where it cannot be had."""
    try:
        return or_none(pareto_khat(log_ratio))
    except DataError:
        return None


def or_none(value: float | None) -> float | None:
    """The number where it is finite: JSON has no others."""
    return float(value) if value is not None and math.isfinite(value) else None


def finite(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with None for numbers that are not finite."""
    return {name: or_none(value) if isinstance(value, float) else value for name, value in row.items()}
