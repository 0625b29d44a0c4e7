"""The course of an optimisation: its steps so far, its budget, and what may end it."""

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd
import pyro
import torch

from ppl_models.engine import EAGER
from ppl_models.errors import ModelError, first_line
from ppl_models.inference.stationarity import gain_between
from ppl_models.inference.steps import Steps
from ppl_models.program import Parameters
from ppl_models.progress import Update

if TYPE_CHECKING:
    from ppl_models.inference.look import Figures

CONVERGED, MAX_STEPS, OUT_OF_TIME = "converged", "max_steps", "out_of_time"
DIVERGED, INTERRUPTED = "diverged", "interrupted"

SECONDS_PER_LOOK = 0.2
"""About how long steps are made without a look at the clock."""
SHOWN = 100
"""Steps whose mean ELBO the progress bar shows."""
TOLERANCE = 0.01
"""Nats that may be left: an error of a tenth of a posterior sd in one mean costs half of it."""
DIMS_PER_TOLERANCE, MOST_TOLERANCES = 30, 20
"""Latents that share one tolerance, up to so many of these."""
MIN_EVALUATIONS, MAX_EVALUATIONS, MAX_EVALUATED_DRAWS = 16, 4_096, 16_384


@dataclass(frozen=True)
class Stage:
    """Steps at one step size.

    Attributes:
        step_size: of Adam, in the fit's coordinates.
        first: its first step.
        stationary: first step of the window over which the iterates were averaged.
        last: one past its last step.
        rhat: largest R-hat of the window's halves; NaN where there was none.
        gap: estimated nats between the ELBO of the window's mean and what longer averaging would give.
        gain: nats that this stage's mean gained over the best point before.
        error: standard error of the gain.
    """

    step_size: float
    first: int
    stationary: int
    last: int
    rhat: float = math.nan
    gap: float = math.nan
    gain: float = math.nan
    error: float = math.nan


@dataclass(frozen=True)
class Trajectory:
    """What an optimisation went through.

    Attributes:
        losses: negative ELBO estimate in nats at each step.
        status: "converged" (the iterates were stationary and a smaller step size gained nothing), "max_steps" (not so
            when the steps ran out), "out_of_time" (nor when the seconds did), "diverged" (a loss was not finite, or a
            step failed), "interrupted" (Ctrl-C).
        constant: first and one past the last step of the last stretch at a fixed step size.
        seconds: time spent.
        note: what went wrong, empty otherwise.
        stages: the step sizes and their windows; empty where an optimizer of the user's decided.
        trial_steps: steps made by the searches for a step size, which are not among the losses.
        history: one row for each epoch of a training by epochs; None elsewhere.
        figures: what a look at the end of such a training found; None elsewhere.
    """

    losses: np.ndarray
    status: str
    constant: tuple[int, int]
    seconds: float
    note: str = ""
    stages: tuple[Stage, ...] = ()
    trial_steps: int = 0
    history: pd.DataFrame | None = None
    figures: "Figures | None" = None


@dataclass(frozen=True)
class Plan:
    """How far an optimisation may go.

    Attributes:
        max_steps: most steps.
        max_seconds: most seconds, from `started` on.
        search: whether the step size is looked for.
        first_factor: the step size to begin with, over that of the steps.
        averaged: whether the iterates are averaged: parameters that are few, or have coordinates.
        num_latents: unconstrained latents; the tolerance grows with many.
        started: `time.perf_counter()` when the fit began.
        seed: of the noise on which points are compared.
    """

    max_steps: int
    max_seconds: float = math.inf
    search: bool = True
    first_factor: float = 1.0
    averaged: bool = True
    num_latents: int = 1
    started: float = field(default_factory=time.perf_counter)
    seed: int = 0

    @property
    def tolerance(self) -> float:
        """Nats that may be left."""
        return tolerance_of(self.num_latents)


def tolerance_of(num_latents: int) -> float:
    """Nats that a fit of so many unconstrained latents may leave."""
    return TOLERANCE * min(max(1.0, num_latents / DIMS_PER_TOLERANCE), MOST_TOLERANCES)


class EndedError(Exception):
    """The optimisation is over, with a status and a note."""

    def __init__(self, status: str, note: str = ""):
        super().__init__(status)
        self.status, self.note = status, note


class Course:
    """Steps made so far, and what may end them.

    Attributes:
        own_errors: what is the user's to mend, and ends in no status.
    """

    own_errors: ClassVar[tuple[type[Exception], ...]] = ()

    def __init__(self, steps: Steps, plan: Plan, update: Update):
        self.steps, self.plan, self.update = steps, plan, update
        self.maker = steps.maker
        self.losses: list[float] = []
        self.safe = Parameters.from_store()
        self.stages: list[Stage] = []
        self.trial_steps, self.steps_per_look = 0, 1
        self.factor = plan.first_factor
        self.num_evaluations = MIN_EVALUATIONS
        self.max_evaluations = min(MAX_EVALUATIONS, MAX_EVALUATED_DRAWS // steps.num_particles + MIN_EVALUATIONS)

    def run(self) -> Trajectory:
        """Make the steps, whatever ends them."""
        started = time.perf_counter()
        try:
            status, note = self.follow(), ""
        except EndedError as ended:
            status, note = ended.status, ended.note
        except KeyboardInterrupt:
            status, note = INTERRUPTED, f"stopped by the user after {len(self.losses)} steps"
        except self.own_errors:
            raise
        except (RuntimeError, ValueError, ArithmeticError) as error:
            # Validation is off by now, and the first run passed: what fails here is a number out of its range.
            if not self.losses:
                raise ModelError(f"the first SVI step failed: {type(error).__name__}: {first_line(error)}") from error
            status, note = DIVERGED, f"step {len(self.losses)} failed: {first_line(error)}"
        if status == OUT_OF_TIME:
            note = f"{time.perf_counter() - self.plan.started:.0f} s were used up after {len(self.losses):,} steps"
        if status == DIVERGED:
            note = "; ".join(part for part in (note, self.steps.fault()) if part)
        self.settle(status)
        constant = self.constant()
        seconds = time.perf_counter() - started
        return Trajectory(
            np.asarray(self.losses), status, constant, seconds, note, tuple(self.stages), self.trial_steps
        )

    def follow(self) -> str:
        """Make the steps; returns the status."""
        raise NotImplementedError

    def constant(self) -> tuple[int, int]:
        """The last stretch at a fixed step size."""
        raise NotImplementedError

    def settle(self, status: str) -> None:
        """Leave the parameters to keep in the param store."""
        if status != DIVERGED or self.steps.backend != EAGER:
            self.maker.write()
        if (status == DIVERGED and self.steps.backend == EAGER) or not finite_parameters():
            self.safe.restore()

    def run_steps(self, factors: np.ndarray, losses: list[float]) -> None:
        """Make steps, with looks at the clock between them; stop behind a loss that is not finite."""
        done = 0
        while done < len(factors):
            if done:
                self.check_time()
            piece = factors[done : done + self.steps_per_look]
            started = time.perf_counter()
            self.maker.run(piece, losses)
            if not math.isfinite(losses[-1]):
                return
            done += len(piece)
            suited = int(len(piece) * SECONDS_PER_LOOK / max(time.perf_counter() - started, 1e-9))
            self.steps_per_look = max(1, min(2 * self.steps_per_look, suited))

    def advance(self, factors: np.ndarray) -> None:
        """Make steps, and look at what came of them."""
        self.run_steps(factors, self.losses)
        if not math.isfinite(self.losses[-1]):
            loss = self.losses.pop()
            raise EndedError(DIVERGED, f"the loss at step {len(self.losses)} was {loss}")
        self.update(len(self.losses), f"{self.steps.objective} {-float(np.mean(self.losses[-SHOWN:])):,.2f}")

    def keep(self) -> None:
        """Remember the present parameters as sound."""
        self.maker.write()
        if not finite_parameters():
            raise EndedError(DIVERGED, f"a parameter was not finite at step {len(self.losses) - 1}")
        self.safe = Parameters.from_store()

    def check_time(self) -> None:
        """End where the seconds are used up."""
        if time.perf_counter() - self.plan.started > self.plan.max_seconds:
            raise EndedError(OUT_OF_TIME)

    def better(self, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        """The second of two points, unless it is worse than the first or there is no loss there."""
        try:
            gain, _ = gain_between(*(self.losses_at(point, self.num_evaluations) for point in (before, after)))
        except KeyboardInterrupt:
            gain = 0.0  # nobody waits for a comparison
        except (RuntimeError, ValueError, ArithmeticError):
            gain = math.nan
        return after if gain >= 0.0 and bool(torch.isfinite(after).all()) else before

    def losses_at(self, point: torch.Tensor, number: int) -> np.ndarray:
        """Losses at a point, on noise that is the same for all points; shape (number,)."""
        return self.maker.losses_at(point.to(self.maker.position()), number, self.plan.seed)


def finite_parameters() -> bool:
    """Whether all that the param store holds is finite."""
    return all(bool(torch.isfinite(value).all()) for _, value in pyro.get_param_store().named_parameters())
