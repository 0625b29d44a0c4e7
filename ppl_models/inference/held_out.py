"""Fits judged on data that they do not see: the held-out ELBO, with patience."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ppl_models.inference.course import CONVERGED, DIVERGED, MAX_STEPS, Course, EndedError, Plan, Stage
from ppl_models.inference.step_search import LOWER, NETWORK_STEP_SIZES, STEP_SIZES, TRIAL_STEPS, search
from ppl_models.inference.steps import Steps
from ppl_models.program import Parameters, Program
from ppl_models.program.data import Arguments
from ppl_models.program.elbo import program_log_ratio
from ppl_models.program.isolation import forked_random
from ppl_models.progress import Update

CHECK_STEPS = 200
"""Steps between two looks at the held-out data."""
PATIENCE = 5
"""Looks in a row without a new best, after which the step size is lowered."""
MAX_LOWERINGS = 3
NUM_NOISE = 4
"""Draws of the guide for each held-out batch."""

Evaluate = Callable[[], np.ndarray]
"""Gives the negative ELBO of each held-out batch and draw in nats, on noise that is the same every time."""


def evaluator(program: Program, guide: Callable[..., Any], batches: Sequence[Arguments], seed: int) -> Evaluate:
    """The held-out loss at the parameters that are in the param store."""

    def evaluate() -> np.ndarray:
        found = []
        with forked_random(program.device), torch.no_grad():
            torch.manual_seed(seed)
            for batch in batches:
                here = replace(program, arguments=batch)
                found += [-float(program_log_ratio(here, guide)) for _ in range(NUM_NOISE)]
        return np.asarray(found)

    return evaluate


class HeldOut(Course):
    """Steps until the held-out ELBO has had no new best for a while; then again from there at a lower step size.

    Prechelt (1998), Early stopping - but when? The parameters kept are those of the best look.
    """

    def __init__(self, steps: Steps, plan: Plan, update: Update, evaluate: Evaluate):
        super().__init__(steps, plan, update)
        self.evaluate = evaluate
        self.best = Parameters.from_store()
        self.position: torch.Tensor = self.maker.position()
        self.best_loss = math.inf

    def follow(self) -> str:
        """Stretches of falling step size, each ended by patience."""
        if self.plan.search:
            sizes = STEP_SIZES if self.plan.averaged else NETWORK_STEP_SIZES
            self.factor = search(self, sizes, TRIAL_STEPS, afresh=True)
        for _ in range(1 + MAX_LOWERINGS):
            before, first = self.best_loss, len(self.losses)
            self._until_patience_ends()
            if not math.isfinite(self.best_loss):
                raise EndedError(DIVERGED, f"the held-out ELBO was not finite in {len(self.losses):,} steps")
            step_size = self.factor * self.steps.step_size
            gain = before - self.best_loss if math.isfinite(before) else math.nan
            self.stages.append(Stage(step_size, first, first, len(self.losses), gain=gain))
            if math.isfinite(before) and gain <= 0.0:
                return CONVERGED
            self.factor *= LOWER
            self.maker.move(self.position)
        return CONVERGED

    def _until_patience_ends(self) -> None:
        """Steps at one step size."""
        first, waited = len(self.losses), 0
        while waited < PATIENCE:
            left = self.plan.max_steps - len(self.losses)
            if left <= 0:
                self.stages.append(Stage(self.factor * self.steps.step_size, first, first, len(self.losses)))
                raise EndedError(MAX_STEPS)
            self.advance(np.full(min(left, CHECK_STEPS), self.factor))
            self.keep()
            loss = float(np.mean(self.evaluate()))
            if loss < self.best_loss:
                self.best_loss, self.best, self.position, waited = loss, self.safe, self.maker.position(), 0
            else:
                waited += 1
            self.check_time()

    def settle(self, status: str) -> None:
        """Leave the parameters of the best look in the param store, and the steps' maker there."""
        if status != DIVERGED and math.isfinite(self.best_loss):
            self.maker.move(self.position)
        super().settle(status)
        if status != DIVERGED and math.isfinite(self.best_loss):
            self.best.restore()

    def constant(self) -> tuple[int, int]:
        """All steps: there is no stretch that must be level."""
        return 0, len(self.losses)
