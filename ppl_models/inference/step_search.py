"""The search for a step size: the highest that is stable and gets as far as any in a few steps."""

import math
from dataclasses import dataclass

import numpy as np
import torch

from ppl_models.inference.course import Course
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
    num_steps = min(num_steps, int(TRIAL_SHARE * course.plan.max_steps / len(factors)))
    if num_steps < MIN_TRIAL_STEPS:
        return course.factor
    begin = course.maker.position()
    chosen = _best_trial(course, begin, factors, num_steps, afresh)
    units = _units(course, begin)
    if units is not None:
        course.maker.set_units(units)
        scaled = _best_trial(course, begin, factors, num_steps, afresh)
        if scaled.mean_loss < chosen.mean_loss:
            chosen = scaled
        else:
            course.maker.set_units(chosen.units)
    if not math.isfinite(chosen.mean_loss):
        course.maker.move(begin, afresh=afresh)
        return min(factors)
    course.trial_steps -= num_steps
    course.maker.move(chosen.end, afresh=afresh)
    course.losses.extend(chosen.losses)
    course.update(len(course.losses), f"ELBO {-float(np.mean(chosen.losses)):,.2f}")
    return chosen.factor


def _units(course: Course, flat: torch.Tensor) -> torch.Tensor | None:
    """A unit for each parameter, where no look at the target gave coordinates."""
    if course.steps.coordinates is not None or not course.maker.averaged or len(flat) > MAX_PARAMETERS:
        return None
    return units_of(course.maker.gradient_at, flat, course.plan.seed)


def _best_trial(
    course: Course, begin: torch.Tensor, factors: tuple[float, ...], num_steps: int, afresh: bool
) -> _Trial:
    """Of the trials that are as good as the best, the one with the largest step size."""
    trials = [_trial(course, begin, factor, num_steps, afresh) for factor in factors]
    largest = LARGEST_FACTOR if course.steps.coordinates is None else max(STEP_SIZES)
    while min(trials, key=_score) is trials[0] and 3.0 * trials[0].factor <= largest:
        if not math.isfinite(trials[0].mean_loss):
            break
        trials.insert(0, _trial(course, begin, 3.0 * trials[0].factor, num_steps, afresh))
    course.trial_steps += num_steps * len(trials)
    best = min(trials, key=_score)
    return next((trial for trial in trials if _as_good(course, trial, best)), best)


def _as_good(course: Course, trial: _Trial, best: _Trial) -> bool:
    """Whether a trial ended as low as the best: but for noise, and for a little of what the best gained."""
    if trial is best:
        return True
    if not math.isfinite(trial.mean_loss):
        return False
    loss = trial.mean_loss - best.mean_loss
    gained = float(np.mean(best.losses[:5])) - best.mean_loss
    return loss < max(TRIAL_ALLOWANCE * course.plan.tolerance, GAIN_SHARE * gained)


def _trial(course: Course, begin: torch.Tensor, factor: float, num_steps: int, afresh: bool) -> _Trial:
    losses: list[float] = []
    course.maker.move(begin, afresh=afresh)
    end, units = begin, course.maker.units.clone() if course.maker.averaged else None
    try:
        for size in (num_steps - num_steps // 2, num_steps // 2):
            course.maker.run(np.full(size, factor), losses)
            end = course.maker.take_mean() if course.maker.averaged else course.maker.position()
    except (RuntimeError, ValueError, ArithmeticError):
        losses.append(math.nan)
    finite = bool(np.isfinite(losses).all()) and bool(torch.isfinite(end).all())
    at_end = course.losses_at(end, course.num_evaluations) if finite else np.full(2, np.inf)
    course.check_time()
    return _Trial(factor, losses, end, at_end, units)


def _score(trial: _Trial) -> float:
    return trial.mean_loss
