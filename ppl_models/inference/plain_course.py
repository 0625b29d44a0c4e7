"""Fits whose iterates are not averaged: a fixed step size until the ELBO has settled, then a cool-down.

Networks are fitted so, which hold too much to sum up at every step, and whatever an optimizer of the user's does.
"""

import numpy as np

from ppl_models.inference.course import CONVERGED, MAX_STEPS, Course, Plan
from ppl_models.inference.stationarity import has_settled
from ppl_models.inference.step_search import NETWORK_STEP_SIZES, TRIAL_STEPS, search
from ppl_models.inference.steps import Steps
from ppl_models.progress import Update

CHECK_EVERY, CHECK_SHARE = 100, 0.1
COOL_DOWN_SHARE = 0.25
MAX_COOL_DOWN = 500
FINAL_STEP_RATIO = 0.01


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


class Plain(Course):
    """A fixed step size until the ELBO has settled, then a cool-down; for what is not averaged."""

    def __init__(self, steps: Steps, plan: Plan, update: Update):
        super().__init__(steps, plan, update)
        self.schedule = Schedule(plan.max_steps)

    def follow(self) -> str:
        """A fixed step size, and a cool-down."""
        status, schedule, max_steps = MAX_STEPS, self.schedule, self.plan.max_steps
        if self.steps.adjustable and self.plan.search:
            self.factor = search(self, NETWORK_STEP_SIZES, TRIAL_STEPS, afresh=True)
        while len(self.losses) < max_steps and not schedule.finished(len(self.losses)):
            first = len(self.losses)
            last = min(schedule.next_check(first), max_steps)
            self.advance(self.factor * np.array([schedule.factor(step) for step in range(first, last)]))
            self.keep()
            self.check_time()
            if schedule.cooling_from is None:
                status = CONVERGED if has_settled(np.asarray(self.losses)) else MAX_STEPS
                if self.steps.adjustable and (status == CONVERGED or schedule.must_cool(len(self.losses))):
                    schedule.start_cooling(len(self.losses))
        return status

    def constant(self) -> tuple[int, int]:
        """The steps before the cool-down."""
        return 0, self.schedule.cooling_from if self.schedule.cooling_from is not None else len(self.losses)
