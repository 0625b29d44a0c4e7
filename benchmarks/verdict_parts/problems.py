"""All problems by name: the catalogue's, posteriordb's, and closed forms; and which of them are near relatives."""

from pathlib import Path

import numpy as np
import torch

import ppl_models as ppl
from benchmarks import posteriordb
from benchmarks.tuning_parts.reference import site_values
from benchmarks.verdict_parts import closed_forms
from benchmarks.verdict_parts.references import reference
from benchmarks.verdict_parts.subject import Subject
from ppl_models.catalogue.registry import POSTERIORS
from ppl_models.program import build_program

LOG_SCALE = {"diabetes_horseshoe": ("tau", "lambda", "slab_variance")}
"""Parameters with infinite variance, by problem of the catalogue."""
RELATIVES = ("eight_schools", "earnings", "kidiq", "mesquite", "nes", "two_modes_1d", "two_modes_2d", "two_modes_5d")
"""Beginnings of names: problems with one of them share data or form, and are no independent evidence."""
LOTKA_VOLTERRA = "hudson_lynx_hare-lotka_volterra"
NO_FOLDER = "posteriordb: no folder given (--folder, or PPL_MODELS_POSTERIORDB), its problems are left out"


def names(*, with_posteriordb: bool) -> tuple[str, ...]:
    """The names of all problems."""
    found = [*POSTERIORS, *closed_forms.names()]
    return tuple(found + list(posteriordb.names())) if with_posteriordb else tuple(found)


def relatives(name: str) -> str:
    """The cluster that a problem belongs to: itself, or the beginning that it shares with others."""
    return next((start for start in RELATIVES if name.startswith(start)), name)


def load(name: str, folder: Path | None, references: Path) -> Subject:
    """The problem of that name with its truth.

    Args:
        name: one of `names`.
        folder: posteriordb's.
        references: where NUTS runs of the catalogue's problems are kept.
    """
    if name in closed_forms.names():
        return closed_forms.load(name)
    if name in posteriordb.names():
        return _posteriordb(name, folder)
    return _catalogue(name, references)


def _posteriordb(name: str, folder: Path | None) -> Subject:
    problem = posteriordb.load(name, folder)
    known = site_values({key: torch.as_tensor(values) for key, values in problem.reference.items()})
    known |= _quarters(problem) if name == LOTKA_VOLTERRA else {}
    return Subject(
        name=name,
        group="posteriordb",
        model=problem.model,
        data=problem.data,
        moments=problem.summary,
        draws={key: values.numpy() for key, values in known.items()},
    )


def _quarters(problem: posteriordb.Problem) -> dict[str, torch.Tensor]:
    """The latents behind the rates and initial populations: quarters of logarithms, over what they are at zero."""
    program = build_program(problem.model, problem.data)
    with program.isolated(seed=0), torch.no_grad():
        guess = program.constrain(torch.zeros(program.num_dims, dtype=program.dtype))
    draws = {name: torch.as_tensor(problem.reference[name]) for name in ("theta", "z_init")}
    return {f"log_{name}_quarters": 4.0 * (values / guess[name]).log() for name, values in draws.items()}


def _catalogue(name: str, references: Path) -> Subject:
    problem = ppl.load(name)
    log_scale = LOG_SCALE.get(name, ())
    found = reference(problem, log_scale, references)
    parameters = [key.removeprefix("draws.") for key in found if key.startswith("draws.")]
    known = [key for key in parameters if key in problem.dims]
    return Subject(
        name=name,
        group="catalogue",
        model=problem.model,
        data=problem.data,
        moments={key: (np.asarray(found[f"mean.{key}"]), np.asarray(found[f"sd.{key}"])) for key in known},
        draws={key: found[f"draws.{key}"] for key in known},
        log_scale=log_scale,
        handwritten=problem.guides["handwritten"],
    )
