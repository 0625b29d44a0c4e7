"""Whether the NumPyro models are ours: log joint densities at reference draws, up to a constant."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from race.processes import PeerError, Worker
from rich.table import Table

from benchmarks import posteriordb
from benchmarks.accuracy_parts.entrants import PACKAGE
from benchmarks.accuracy_parts.measuring import ROOT
from benchmarks.tuning_parts.reference import site_values
from benchmarks.tuning_parts.settings import Settings
from ppl_models.program import Program, build_program

POINTS = 8
TOLERANCE = 1e-8
BY_SOLVER = {"hudson_lynx_hare-lotka_volterra": 1e-4}
"""The two solve the differential equations by different methods."""

Point = Mapping[str, np.ndarray]


def check(settings: Settings) -> Table:
    """Compare at reference draws; the table says agree, DIFFER or failed."""
    table = Table("problem", "largest relative difference", "", title="NumPyro's log densities beside ours")
    for problem in settings.posteriors():
        try:
            found = difference(problem, settings.folder)
        except PeerError as error:
            table.add_row(problem.name, "", f"failed: {error}")
        else:
            agrees = found <= BY_SOLVER.get(problem.name, TOLERANCE)
            table.add_row(problem.name, f"{found:.2g}", "agree" if agrees else "[bold]DIFFER[/bold]")
    return table


def difference(problem: posteriordb.Problem, folder: Path) -> float:
    """Largest difference between the two log densities, but for a constant, over the size of ours."""
    program = build_program(problem.model, problem.data)
    points = reference_points(problem, program)
    ours = np.array([log_density(program, point) for point in points])
    lists = [{name: value.tolist() for name, value in point.items()} for point in points]
    with Worker(f"{PACKAGE}.of_numpyro", variables={"PYTHONPATH": str(ROOT)}) as worker:
        worker.prepare("log_density", problem=problem.name, folder=str(folder), points=lists)
        theirs = np.array(worker.time(1)["log_density"])
    return relative_difference(ours, theirs)


def relative_difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Both in nats, shape (point,)."""
    away = theirs - ours
    return float(np.max(np.abs(away - away[0])) / np.max(np.abs(ours)))


def reference_points(problem: posteriordb.Problem, program: Program) -> list[Point]:
    """Reference draws far apart in the file, with latents that the reference has only transformed."""
    draws = {name: torch.as_tensor(values, dtype=program.dtype) for name, values in problem.reference.items()}
    chains, length = next(iter(draws.values())).shape[:2]
    picked = [(index % chains, (37 * index) % length) for index in range(POINTS)]
    points = [site_values({name: values[place] for name, values in draws.items()}) for place in picked]
    return [{name: value.numpy() for name, value in point.items()} for point in points]


def log_density(program: Program, point: Point) -> float:
    """Our log density in nats as one of the reference's parameters."""
    values = {name: torch.as_tensor(value, dtype=program.dtype) for name, value in point.items()}
    if "z_init" not in values:
        with program.isolated():
            return float(program.log_joint(values))
    # Ours has logarithms for sites, in quarters and in units of its own: the parameters' density has their Jacobian.
    with program.isolated(), torch.no_grad():
        units = program.constrain(torch.zeros(program.num_dims, dtype=program.dtype))
        for name in ("theta", "z_init"):
            values[f"log_{name}_quarters"] = 4.0 * (values[name] / units[name]).log()
        return float(program.log_joint(values) - values["theta"].log().sum() - values["z_init"].log().sum())
