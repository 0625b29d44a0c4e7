"""Fits in stages of falling step size, each averaged over its stationary part."""

import math
from dataclasses import replace

import numpy as np
import pyro
import torch

from ppl_models.inference.course import (
    CONVERGED,
    DIVERGED,
    INTERRUPTED,
    MAX_STEPS,
    OUT_OF_TIME,
    Course,
    EndedError,
    Plan,
    Stage,
)
from ppl_models.inference.stationarity import (
    block_means,
    drift_of,
    fall_over_blocks,
    gain_between,
    gap_of_blocks,
    still_falls,
)
from ppl_models.inference.step_search import LOWER, MORE_TRIAL_STEPS, STEP_SIZES, TRIAL_STEPS, search
from ppl_models.inference.steps import Steps
from ppl_models.progress import Update

RECORD, MOST_RECORDS = 10, 64
"""Steps whose mean is one record of the iterates, and how many records are kept; then two become one."""
FIRST_CHECK, CHECK_GROWTH = 400, 1.25
MOST_FIRST_STEPS = 4_000
SEARCH_AGAIN = 1_000
"""Steps at one step size, still going somewhere, after which others are tried; doubled each time."""
SMALLEST_FACTOR = 1e-5
COOL_DOWN_SHARE, FINAL_FACTOR = 0.2, 0.03
"""Share of the steps that are kept for a cool-down where the fit has not converged before, and where that ends."""
EVALUATION_SHARE = 40
"""One evaluation of the loss for so many steps, when points are compared."""


class Averaging(Course):
    """Stages of falling step size, each averaged over its stationary part."""

    def __init__(self, steps: Steps, plan: Plan, update: Update):
        super().__init__(steps, plan, update)
        self.best: torch.Tensor = self.maker.position()
        self.first_check = FIRST_CHECK
        self.unfinished: int | None = None

    def follow(self) -> str:
        """Stages, until one gained nothing."""
        if self.plan.search:
            self.factor = search(self, STEP_SIZES, TRIAL_STEPS, afresh=True)
        self.best = self.maker.position()
        while True:
            stage, mean = self._stage()
            gain, error = self._gain(self.best, mean)
            first = not any(math.isfinite(stage.gap) for stage in self.stages)
            self.stages.append(replace(stage, gain=gain, error=error))
            self.unfinished = None
            if not self._watched().all():
                # Where parameters are not watched, a smaller step size gets the steps to go as far as the one before.
                self.first_check = min(MOST_FIRST_STEPS, int((stage.last - stage.first) / LOWER))
            # A mean that is worse than what was there before has only met the noise of its step size.
            if gain > -2.0 * error:
                self.best = mean
            if not first and abs(gain) + 2.0 * error < self.plan.tolerance:
                return CONVERGED
            if self.factor * LOWER >= SMALLEST_FACTOR:
                self.factor *= LOWER
            elif gain - 2.0 * error < self.plan.tolerance:
                return CONVERGED  # not known well enough to go on for
            self.maker.move(self.best)

    def settle(self, status: str) -> None:
        """Leave the best average in the param store."""
        if status in (INTERRUPTED, OUT_OF_TIME):
            # Where a stage was cut short, keep where it was if that is better than where it began.
            self.best = self.better(self.best, self.maker.position())
        if status != DIVERGED:
            self.maker.move(self.best)
        super().settle(status)

    def constant(self) -> tuple[int, int]:
        """The window of the last stage, or all of one that was cut short."""
        if self.unfinished is not None:
            return self.unfinished, len(self.losses)
        if not self.stages:
            return 0, len(self.losses)
        return self.stages[-1].stationary, self.stages[-1].last

    def _stage(self) -> tuple[Stage, torch.Tensor]:
        """Steps at one step size until their average is good enough."""
        first, records, length = len(self.losses), [], RECORD
        check, again = self.first_check, SEARCH_AGAIN
        self.unfinished = first
        while True:
            self._cool_down_if_due(first)
            record = []
            for _ in range(length // RECORD):
                self.advance(np.full(RECORD, self.factor))
                record.append(self.maker.take_mean())
                self.check_time()
            records.append(torch.stack(record).mean(dim=0).double().cpu().numpy())
            if len(records) == MOST_RECORDS:
                records = [0.5 * (a + b) for a, b in zip(records[::2], records[1::2], strict=True)]
                length *= 2
            made = len(self.losses) - first
            if made < check:
                continue
            check = int(made * CHECK_GROWTH)
            self.keep()
            found = self._judge(np.asarray(records), length, first)
            if found is not None:
                return found
            if made >= again and self.plan.search:
                again *= 2
                factor = search(self, (self.factor, LOWER * self.factor), MORE_TRIAL_STEPS)
                # The search moved the point, and perhaps the units: what was recorded belongs to another stretch.
                records, length, check = [], RECORD, len(self.losses) - first + FIRST_CHECK
                if factor != self.factor:
                    self.stages.append(Stage(self._step_size(), first, first, made + first))
                    self.factor, first, check = factor, len(self.losses), self.first_check
                    self.unfinished = first

    def _judge(self, records: np.ndarray, length: int, first: int) -> tuple[Stage, torch.Tensor] | None:
        """The stage and its average, where the last records are stationary and their mean is good enough."""
        for window in (records[len(records) // 4 :], records[len(records) // 2 :]):
            start = len(self.losses) - length * len(window)
            watched = self._watched()
            drift = drift_of((window / self.maker.units.cpu().numpy())[:, watched], self._step_size() * length)
            if drift.drifting or still_falls(np.asarray(self.losses[start:]), self.plan.tolerance):
                continue
            means = [torch.as_tensor(mean) for mean in block_means(window)]
            made = len(self.losses) - first
            number = max(self.num_evaluations, min(self.max_evaluations, made // EVALUATION_SHARE))
            losses = np.stack([self.losses_at(mean, number) for mean in means])
            gap, error = gap_of_blocks(losses)
            fall, fall_error = fall_over_blocks(losses)
            if gap + error < self.plan.tolerance and fall + fall_error < 2.0 * self.plan.tolerance:
                stage = Stage(self._step_size(), first, start, len(self.losses), drift.rhat, gap)
                return stage, means[0].to(self.maker.position())
            return None
        return None

    def _watched(self) -> np.ndarray:
        """The coordinates that come to rest."""
        coordinates = self.steps.coordinates
        return self._no_networks() if coordinates is None else coordinates.watched.cpu().numpy()

    def _no_networks(self) -> np.ndarray:
        """Which parameters are no weights of networks, as their names tell."""
        named = [(n, h.numel()) for n, h in pyro.get_param_store().named_parameters() if h.requires_grad]
        found = [np.full(count, not _is_networks(name)) for name, count in named]
        return np.concatenate(found)[: len(self.best)]

    def _gain(self, before: torch.Tensor, after: torch.Tensor) -> tuple[float, float]:
        """By how much one point is better than another, with as many evaluations as it takes to know."""
        while True:
            losses = [self.losses_at(point, self.num_evaluations) for point in (before, after)]
            gain, error = gain_between(*losses)
            most = min(self.max_evaluations, len(self.losses) // 4)  # comparing must not cost more than the steps
            if 2.0 * error < 0.5 * self.plan.tolerance or self.num_evaluations >= most:
                return gain, error
            self.num_evaluations *= 2

    def _step_size(self) -> float:
        return self.factor * self.steps.step_size

    def _cool_down_if_due(self, first: int) -> None:
        """With few steps left, lower the step size to the end and keep the average of the last of them."""
        left = self.plan.max_steps - len(self.losses)
        due = max(RECORD, int(COOL_DOWN_SHARE * self.plan.max_steps))
        if left > due:
            return
        if left > 0:
            start = len(self.losses)
            factors = self.factor * FINAL_FACTOR ** (np.arange(left) / left)
            self.advance(factors[: left - left // 2])
            self.keep()
            if left > 1:
                self.maker.take_mean()
                self.advance(factors[left - left // 2 :])
                self.keep()
            if left < RECORD:
                self.best = self.maker.position()  # too few to be a mean of anything
            else:
                mean = self.maker.take_mean()
                if self._gain(self.best, mean)[0] > 0.0:
                    self.best = mean
            self.stages.append(Stage(self._step_size(), first, first, start))
            self.unfinished = None
        raise EndedError(MAX_STEPS)


def _is_networks(name: str) -> bool:
    return "$$$" in name or name.rsplit(".", 1)[-1] in ("weight", "bias")
