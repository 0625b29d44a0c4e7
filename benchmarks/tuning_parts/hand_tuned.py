"""A fit as somebody would tune it who knows the answer: data standardised, begun at the mean, the cheapest Adam run.

The search runs down a grid and is not timed: the fewest steps, and among those a step size, that come within the limit
of the family's best for every seed tried. The step size is fixed, or falls at the end.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyro.optim
import torch
from pyro.infer.autoguide.initialization import init_to_value

import ppl_models as ppl
from benchmarks.tuning_parts.gaussian import Gaussian, difference, of_fit
from benchmarks.tuning_parts.rules import BEST_NATS
from benchmarks.tuning_parts.target import Target
from ppl_models import Fit
from ppl_models.program import build_program

STEPS = (100, 200, 400, 800, 1_500, 3_000, 6_000, 12_000)
STEP_SIZES = (0.1, 0.03, 0.01, 0.003, 0.001)
FIXED, COOLED = METHODS = "fixed", "cooled"
"""Adam at one step size; and at one that falls over the last fifth of the steps, whose later half is averaged."""
SEARCH_SEEDS = (101, 102, 103)
COEFFICIENTS = "beta"


@dataclass(frozen=True)
class Start:
    """Where a run tuned by hand begins, and how its guide reads in the coordinates of the problem.

    Attributes:
        model: called with `data`.
        data: standardised where there are columns to standardise.
        values: constrained value of each latent at the start.
        scale: standard deviation of each latent at the start, unconstrained.
        back: matrix that takes flat unconstrained vectors to those of the problem, shape (dim, dim).
    """

    model: Callable[..., Any]
    data: Mapping[str, Any]
    values: Mapping[str, torch.Tensor]
    scale: float
    back: np.ndarray


@dataclass(frozen=True)
class Tuning:
    """A run of the grid."""

    method: str
    step_size: float
    steps: int

    def fit(self, start: Start, guide: str, seed: int) -> Fit:
        """Fit on the native backend, without a look at the target or a search."""
        chosen: dict[str, Any] = (
            {"optimizer": pyro.optim.Adam({"lr": self.step_size})}
            if self.method == FIXED
            else {"step_size": self.step_size}
        )
        return ppl.fit(
            start.model,
            start.data,
            guide=guide,
            guide_options={"init_loc_fn": init_to_value(values=dict(start.values))},
            init_scale=start.scale,
            max_steps=self.steps,
            precondition=False,
            backend="native",
            seed=seed,
            **chosen,
        )


def start_at(problem: Any, target: Target, best: Gaussian, *, standardise: bool) -> Start:
    """The start at the best guide's mean, and at one standard deviation for all latents.

    Args:
        problem: with `model` and `data`.
        target: its log density.
        best: the best guide of the family.
        standardise: whether the columns of `x` behind the first, of ones, are centred and scaled; their coefficients
            must have flat priors.
    """
    program, data, back = target.program, dict(problem.data), np.eye(target.num_dims)
    if standardise:
        x = data["x"]
        mean, sd = x[:, 1:].mean(dim=0), x[:, 1:].std(dim=0)
        data["x"] = torch.cat([x[:, :1], (x[:, 1:] - mean) / sd], dim=1)
        place, _ = program.slices[COEFFICIENTS]
        first, rest = place.start, slice(place.start + 1, place.stop)
        back[rest, rest] = np.diag(1.0 / sd.numpy())
        back[first, rest] = -(mean / sd).numpy()
    there = transformed(best, np.linalg.inv(back)) if standardise else best
    other = build_program(problem.model, data) if standardise else program
    with other.isolated(), torch.no_grad():
        values = other.constrain(torch.as_tensor(there.mean))
    latents = {name: values[name] for name in other.slices}
    scales = there.root if there.root.ndim == 1 else 1.0 / np.sqrt(np.square(np.linalg.inv(there.root)).sum(axis=0))
    return Start(problem.model, data, latents, float(np.exp(np.log(scales).mean())), back)


def transformed(gaussian: Gaussian, matrix: np.ndarray) -> Gaussian:
    """The distribution of matrix @ x, dense."""
    root = np.diag(gaussian.root) if gaussian.root.ndim == 1 else gaussian.root
    moved = matrix @ root
    return Gaussian(matrix @ gaussian.mean, np.linalg.cholesky(moved @ moved.T))


def deficit_of(fit: Fit, start: Start, target: Target, best: Gaussian) -> float:
    """Nats below the family's best; infinite where the fit failed."""
    if fit.status == "diverged":
        return np.inf
    found = of_fit(fit)
    if not np.array_equal(start.back, np.eye(len(start.back))):
        found = transformed(found, start.back)
    return difference(target.density, best, found)[0]


def search(start: Start, guide: str, method: str, deficit: Callable[[Fit], float]) -> Tuning | None:
    """The cheapest run of a method that comes near the best for every seed; None where none does."""
    for tuning in grid(method):
        if all(deficit(tuning.fit(start, guide, seed)) <= BEST_NATS for seed in SEARCH_SEEDS):
            return tuning
    return None


def grid(method: str) -> Iterator[Tuning]:
    """Runs, those of fewer steps first."""
    for steps in STEPS:
        for step_size in STEP_SIZES:
            yield Tuning(method, step_size, steps)
