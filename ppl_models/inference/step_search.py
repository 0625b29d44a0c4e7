"""The search for a step size: the highest that is stable and gets as far as any in a few steps."""

import math
from dataclasses import dataclass, field

import numpy as np
import torch

from ppl_models.inference.course import Course, EndedError
from ppl_models.inference.preconditioning.curvature import MAX_PARAMETERS, units_of

STEP_SIZES = (0.3, 0.1, 0.03, 0.01, 0.003)
"""Step sizes that are tried, over the first one of the fit; upwards it goes on while that helps."""
NETWORK_STEP_SIZES = (0.01, 0.003, 0.001, 0.0003)
"""The same for networks."""
LARGEST_FACTOR = 3.0
TRIAL_STEPS, MORE_TRIAL_STEPS, MIN_TRIAL_STEPS = 60, 200, 20
LOWER = 0.3
"""Factor of the step size from stage to stage."""
TRIAL_SHARE = 0.2
"""Most of `max_steps` that the trials of one search may take, all together."""
TRIAL_ALLOWANCE, GAIN_SHARE = 10.0, 0.05
"""Tolerances, and share of what the best trial gained: another trial that lost no more is as good."""


@dataclass(frozen=True)
class _Trial:
    """A few steps at one step size: its losses, the mean of its later half, and the losses there on common noise."""

    factor: float
    losses: list[float]
    end: torch.Tensor
    at_end: np.ndarray
    units: torch.Tensor | None

    @property
    def mean_loss(self) -> float:
        """The loss at the end, in nats."""
        mean = float(np.mean(self.at_end))
        return mean if math.isfinite(mean) else math.inf


def search(course: Course, factors: tuple[float, ...], num_steps: int, *, afresh: bool = False) -> float:
    """The step size that gets furthest in a few steps, from here; the steps of the best one are kept."""
    begin = course.maker.position()
    budget = int(TRIAL_SHARE * course.plan.max_steps)
    scalable = _scalable(course, begin) and budget >= 2 * len(factors) * MIN_TRIAL_STEPS
    num_steps = min(num_steps, budget // ((1 + scalable) * len(factors)))
    if num_steps < MIN_TRIAL_STEPS:
        return course.factor
    trials = _Trials(course, begin, num_steps, afresh, budget // num_steps)
    try:
        chosen = trials.best(factors, spare=len(factors) if scalable else 0)
        units = _units(course, begin) if scalable else None
        if units is not None:
            course.maker.set_units(units)
            scaled = trials.best(factors)
            if scaled.mean_loss < chosen.mean_loss:
                chosen = scaled
            else:
                course.maker.set_units(chosen.units)
    except (EndedError, KeyboardInterrupt):
        trials.leave()
        raise
    if not math.isfinite(chosen.mean_loss):
        course.maker.move(begin, afresh=afresh)
        return min(factors)
    trials.take(chosen)
    return chosen.factor


def _scalable(course: Course, flat: torch.Tensor) -> bool:
    """Whether parameters get units here: where no look at the target gave coordinates."""
    return course.steps.coordinates is None and course.maker.averaged and len(flat) <= MAX_PARAMETERS


def _units(course: Course, flat: torch.Tensor) -> torch.Tensor | None:
    try:
        return units_of(course.maker.gradient_at, flat, course.plan.seed)
    except (RuntimeError, ValueError, ArithmeticError):
        return None  # somewhere around here the model fails


@dataclass
class _Trials:
    """Trials from one point, as many as the budget has."""

    course: Course
    begin: torch.Tensor
    num_steps: int
    afresh: bool
    left: int
    made: list[_Trial] = field(default_factory=list)
    last: list[float] = field(default_factory=list)

    def best(self, factors: tuple[float, ...], spare: int = 0) -> _Trial:
        """Of the trials that are as good as the best, the one with the largest step size."""
        course = self.course
        trials = [self._make(factor) for factor in factors]
        largest = LARGEST_FACTOR if course.steps.coordinates is None else max(STEP_SIZES)
        while min(trials, key=_score) is trials[0] and 3.0 * trials[0].factor <= largest:
            if not math.isfinite(trials[0].mean_loss) or self.left <= spare:
                break
            trials.insert(0, self._make(3.0 * trials[0].factor))
        best = min(trials, key=_score)
        return next((trial for trial in trials if _as_good(course, trial, best)), best)

    def _make(self, factor: float) -> _Trial:
        self.left -= 1
        self.last = []
        try:
            self.made.append(_trial(self.course, self.begin, factor, self.num_steps, self.afresh, self.last))
        finally:
            self.course.trial_steps += len(self.last)
        self.course.check_time()
        return self.made[-1]

    def take(self, chosen: _Trial) -> None:
        """Go on from the end of a trial, whose steps then count."""
        course = self.course
        course.maker.move(chosen.end, afresh=self.afresh)
        self._count(chosen.losses)
        course.update(len(course.losses), f"ELBO {-float(np.mean(chosen.losses)):,.2f}")

    def _count(self, losses: list[float]) -> None:
        self.course.trial_steps -= len(losses)
        self.course.losses.extend(losses)

    def leave(self) -> None:
        """Where the search was cut short: go to the best trial, or to where the first one got if that is better."""
        course, best = self.course, min(self.made, key=_score, default=None)
        if best is not None and math.isfinite(best.mean_loss):
            self.take(best)
            return
        here = course.maker.position()
        there = course.better(self.begin, here)
        course.maker.move(there)
        if there is here and np.isfinite(self.last).all():
            self._count(self.last)


def _as_good(course: Course, trial: _Trial, best: _Trial) -> bool:
    """Whether a trial ended as low as the best: but for noise, and for a little of what the best gained."""
    if trial is best:
        return True
    if not math.isfinite(trial.mean_loss):
        return False
    loss = trial.mean_loss - best.mean_loss
    gained = float(np.mean(best.losses[:5])) - best.mean_loss
    return loss < max(TRIAL_ALLOWANCE * course.plan.tolerance, GAIN_SHARE * gained)


def _trial(
    course: Course, begin: torch.Tensor, factor: float, num_steps: int, afresh: bool, losses: list[float]
) -> _Trial:
    course.maker.move(begin, afresh=afresh)
    end, units = begin, course.maker.units.clone() if course.maker.averaged else None
    try:
        for size in (num_steps - num_steps // 2, num_steps // 2):
            course.run_steps(np.full(size, factor), losses)
            end = course.maker.take_mean() if course.maker.averaged else course.maker.position()
    except (RuntimeError, ValueError, ArithmeticError):
        losses.append(math.nan)
    finite = bool(np.isfinite(losses).all()) and bool(torch.isfinite(end).all())
    at_end = course.losses_at(end, course.num_evaluations) if finite else np.full(2, np.inf)
    return _Trial(factor, losses, end, at_end, units)


def _score(trial: _Trial) -> float:
    return trial.mean_loss
