"""Which model serves which problem."""

from collections.abc import Callable
from typing import Any

import jax
import torch

from benchmarks.accuracy_parts.numpyro_models import regressions, series, small
from benchmarks.posteriordb import Problem
from benchmarks.posteriordb import names as all_names

FAMILIES: dict[str, Callable[..., None]] = {
    "arK": series.autoregression,
    "arma": series.moving_average,
    "bball_drive_event_1": series.drive,
    "diamonds": regressions.diamonds,
    "earnings": regressions.flat,
    "eight_schools": small.eight_schools,
    "gp_pois_regr": small.gaussian_process,
    "hmm_example": series.hidden_markov,
    "hudson_lynx_hare": small.lotka_volterra,
    "kidiq": regressions.half_cauchy,
    "kidiq_with_mom_work": regressions.flat,
    "mesquite": regressions.flat,
    "nes": regressions.flat,
    "sblrc": regressions.ridge,
}
"""By the name of the data, which is the first part of a problem's; the years of `nes` share one."""


def names() -> tuple[str, ...]:
    """The problems that have a NumPyro model."""
    return tuple(name for name in all_names() if _data_of(name) in FAMILIES)


def load(problem: Problem) -> tuple[Callable[..., None], dict[str, Any]]:
    """The model of a problem, and its data as jax arrays."""
    data = {
        name: jax.numpy.asarray(value.numpy()) if isinstance(value, torch.Tensor) else value
        for name, value in problem.data.items()
    }
    return FAMILIES[_data_of(problem.name)], data


def _data_of(name: str) -> str:
    data = name.split("-")[0]
    return "nes" if data.startswith("nes") else data
