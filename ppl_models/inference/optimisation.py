"""The loop around SVI steps: steps at a fixed step size until the ELBO settles, then a cool-down; then a status."""

import math
import time
from dataclasses import dataclass

import numpy as np
import pyro
import torch

from ppl_models.engine import EAGER
from ppl_models.errors import ModelError, first_line
from ppl_models.inference.stationarity import has_settled
from ppl_models.inference.steps import Steps
from ppl_models.program import Parameters
from ppl_models.progress import Update

CHECK_EVERY, CHECK_SHARE = 100, 0.1
COOL_DOWN_SHARE = 0.25
MAX_COOL_DOWN = 500
FINAL_STEP_RATIO = 0.01
CONVERGED, MAX_STEPS, DIVERGED, INTERRUPTED = "converged", "max_steps", "diverged", "interrupted"


@dataclass(frozen=True)
class Trajectory:
    """What an optimisation went through.

    Attributes:
        losses: negative ELBO estimate in nats at each step.
        status: "converged" (the ELBO settled at a fixed step size), "max_steps" (it was still moving, or too noisy to
            tell, when the steps ran out), "diverged" (a loss was not finite, or a step failed), "interrupted" (Ctrl-C).
        constant: first and one past the last step at the fixed step size.
        seconds: time spent.
        note: what went wrong, empty otherwise.
    """

    losses: np.ndarray
    status: str
    constant: tuple[int, int]
    seconds: float
    note: str = ""


class Schedule:
    """A fixed step size until told to cool down, then geometric decay to a hundredth of it."""

    def __init__(self, max_steps: int):
        self.max_steps = max_steps
        self.cool_steps = min(MAX_COOL_DOWN, int(COOL_DOWN_SHARE * max_steps))
        self.cooling_from: int | None = None

    def start_cooling(self, step: int) -> None:
        """Begin the decay at this step."""
        self.cooling_from = step

    def must_cool(self, step: int) -> bool:
        """Whether the steps left are just those of the cool-down."""
        return self.cooling_from is None and step >= self.max_steps - self.cool_steps

    def finished(self, step: int) -> bool:
        """Whether no step is left."""
        if self.cooling_from is None:
            return step >= self.max_steps
        return step >= min(self.max_steps, self.cooling_from + self.cool_steps)

    def next_check(self, step: int) -> int:
        """The step before which the trace is looked at again: ever more rarely, so that looking stays cheap."""
        if self.cooling_from is not None:
            return min(step + CHECK_EVERY, self.cooling_from + self.cool_steps)
        interval = max(CHECK_EVERY, int(step * CHECK_SHARE) // CHECK_EVERY * CHECK_EVERY)
        last = self.max_steps - self.cool_steps
        return min(step + interval, last if step < last else self.max_steps)

    def factor(self, step: int) -> float:
        """The step size at this step over the first one."""
        if self.cooling_from is None or self.cool_steps == 0:
            return 1.0
        return FINAL_STEP_RATIO ** ((step - self.cooling_from) / self.cool_steps)


def optimise(steps: Steps, max_steps: int, update: Update) -> Trajectory:
    """Run steps until the ELBO has settled and the step size has come down, or the steps are used up.

    Args:
        steps: makes the steps; where their step size is not adjustable, all of `max_steps` are made.
        max_steps: most steps.
        update: told of the steps done and of the smoothed ELBO.

    The param store ends with the last parameters whose loss was finite (to within `CHECK_EVERY` steps for eager steps).
    """
    schedule = Schedule(max_steps)
    losses: list[float] = []
    status, note, safe = MAX_STEPS, "", Parameters.from_store()
    started = time.perf_counter()
    try:
        while len(losses) < max_steps and not schedule.finished(len(losses)):
            first = len(losses)
            last = min(schedule.next_check(first), max_steps)
            steps.run(np.array([schedule.factor(step) for step in range(first, last)]), losses)
            if not math.isfinite(losses[-1]):
                loss = losses.pop()
                status, note = DIVERGED, f"the loss at step {len(losses)} was {loss}"
                break
            update(len(losses), f"ELBO {-float(np.mean(losses[-CHECK_EVERY:])):,.2f}")
            steps.write()
            if not _finite_parameters():
                status, note = DIVERGED, f"a parameter was not finite at step {len(losses) - 1}"
                break
            safe = Parameters.from_store()
            if schedule.cooling_from is None:
                status = CONVERGED if has_settled(np.asarray(losses)) else MAX_STEPS
                if steps.adjustable and (status == CONVERGED or schedule.must_cool(len(losses))):
                    schedule.start_cooling(len(losses))
    except KeyboardInterrupt:
        status, note = INTERRUPTED, f"stopped by the user after {len(losses)} steps"
    except (RuntimeError, ValueError, ArithmeticError) as error:
        # Validation is off by now, and the first run passed: what fails here is a number out of its range.
        if not losses:
            raise ModelError(f"the first SVI step failed: {type(error).__name__}: {first_line(error)}") from error
        status, note = DIVERGED, f"step {len(losses)} failed: {first_line(error)}"
    if status == DIVERGED:
        note = "; ".join(part for part in (note, steps.fault()) if part)
    if status != DIVERGED or steps.backend != EAGER:
        steps.write()
    if status == DIVERGED and (steps.backend == EAGER or not _finite_parameters()):
        _load(safe)
    end = schedule.cooling_from if schedule.cooling_from is not None else len(losses)
    return Trajectory(np.asarray(losses), status, (0, end), time.perf_counter() - started, note)


def _finite_parameters() -> bool:
    return all(bool(torch.isfinite(value).all()) for _, value in pyro.get_param_store().named_parameters())


def _load(parameters: Parameters) -> None:
    with torch.no_grad():
        for name, value in parameters.values.items():
            pyro.get_param_store()._params[name].copy_(value)
