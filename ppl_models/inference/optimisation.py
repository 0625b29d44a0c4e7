"""The loop around Pyro's SVI: steps at a fixed step size until the ELBO settles, then a cool-down; then a status."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyro
import torch

from ppl_models.errors import ModelError, first_line
from ppl_models.inference.stationarity import has_settled
from ppl_models.program import Parameters
from ppl_models.progress import Update

CHECK_EVERY = 50
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

    def factor(self, step: int) -> float:
        """The step size at this step over the first one."""
        if self.cooling_from is None or self.cool_steps == 0:
            return 1.0
        return FINAL_STEP_RATIO ** ((step - self.cooling_from) / self.cool_steps)


def optimise(
    step_once: Callable[[], float],
    set_step_factor: Callable[[float], None] | None,
    max_steps: int,
    update: Update,
    *,
    write: Callable[[], None] = lambda: None,
) -> Trajectory:
    """Run steps until the ELBO has settled and the step size has come down, or the steps are used up.

    Args:
        step_once: makes one step and returns its loss in nats.
        set_step_factor: sets the step size, relative to the first one; None leaves the schedule to the optimiser, and
            then all of `max_steps` are made.
        max_steps: most steps.
        update: told of the steps done and of the smoothed ELBO.
        write: hands the parameters to the param store's tensors, for steps that keep them elsewhere.

    The param store ends with the last parameters whose loss was finite (to within `CHECK_EVERY` steps).
    """
    schedule = Schedule(max_steps)
    losses: list[float] = []
    status, note, safe = MAX_STEPS, "", Parameters.from_store()
    started = time.perf_counter()
    try:
        while len(losses) < max_steps and not schedule.finished(len(losses)):
            step = len(losses)
            if set_step_factor and schedule.cooling_from is not None:
                set_step_factor(schedule.factor(step))
            loss = step_once()
            if not math.isfinite(loss):
                status, note = DIVERGED, f"the loss at step {step} was {loss}"
                break
            losses.append(loss)
            if len(losses) % CHECK_EVERY:
                continue
            update(len(losses), f"ELBO {-float(np.mean(losses[-CHECK_EVERY:])):,.2f}")
            write()
            if not _finite_parameters():
                status, note = DIVERGED, f"a parameter was not finite at step {step}"
                break
            safe = Parameters.from_store()
            if schedule.cooling_from is None:
                status = CONVERGED if has_settled(np.asarray(losses)) else MAX_STEPS
                if set_step_factor and (status == CONVERGED or schedule.must_cool(len(losses))):
                    schedule.start_cooling(len(losses))
    except KeyboardInterrupt:
        status, note = INTERRUPTED, f"stopped by the user after {len(losses)} steps"
    except (RuntimeError, ValueError, ArithmeticError) as error:
        # Validation is off by now, and the first run passed: what fails here is a number out of its range.
        if not losses:
            raise ModelError(f"the first SVI step failed: {type(error).__name__}: {first_line(error)}") from error
        status, note = DIVERGED, f"step {len(losses)} failed: {first_line(error)}"
    if status == DIVERGED:
        _load(safe)
    else:
        write()
    end = schedule.cooling_from if schedule.cooling_from is not None else len(losses)
    return Trajectory(np.asarray(losses), status, (0, end), time.perf_counter() - started, note)


def _finite_parameters() -> bool:
    return all(bool(torch.isfinite(value).all()) for _, value in pyro.get_param_store().named_parameters())


def _load(parameters: Parameters) -> None:
    with torch.no_grad():
        for name, value in parameters.values.items():
            pyro.get_param_store()._params[name].copy_(value)
