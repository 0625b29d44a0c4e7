"""Evidence by particle filters: against Kalman's likelihood, and the forward sum of a hidden Markov model."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pyro import distributions as dist

from ppl_models.inference.evidence.filtered import Filtered
from ppl_models.inference.evidence.particle_filter import particle_filter
from ppl_models.inference.evidence.resampling import RESAMPLERS
from ppl_models.inference.evidence.state_space import StateSpace

NUM_RUNS = 100
DECAY, DRIFT, NOISE = 0.95, 0.3, 0.5
STEP, PUSH, SIGHT = 0.5, 0.3, 1.0
MOVES = torch.tensor([[0.95, 0.04, 0.01], [0.05, 0.9, 0.05], [0.02, 0.08, 0.9]], dtype=torch.float64)
LEVELS = torch.tensor([-1.5, 0.0, 2.0], dtype=torch.float64)


@dataclass(frozen=True)
class Problem:
    """A state-space model with its observations and the log evidence of them in nats."""

    name: str
    space: StateSpace
    y: np.ndarray
    truth: float


def rows(quick: bool) -> list[dict[str, Any]]:
    """One row for each problem and method."""
    num_particles, num_steps = (200, 40) if quick else (1_000, 200)
    found = []
    for problem in (level(num_steps), tracking(num_steps), regimes(num_steps)):
        for resampling in RESAMPLERS:
            found.append(_row(problem, resampling, problem.space, num_particles, resampling=resampling))
        found.append(_row(problem, "systematic, at every time", problem.space, num_particles, threshold=1.0))
    followed = level(num_steps)
    found.append(_row(followed, "systematic, optimal proposal", guided(followed.space), num_particles))
    return found


def _row(problem: Problem, method: str, space: StateSpace, num_particles: int, **options: Any) -> dict[str, Any]:
    found = particle_filter(space, problem.y, num_particles=num_particles, num_runs=NUM_RUNS, seed=1, **options)
    estimate, error = float(found.log_evidence), float(found.standard_error)
    steps = num_particles * NUM_RUNS * len(problem.y)
    return {
        "problem": problem.name,
        "method": method,
        "truth": problem.truth,
        "estimate": estimate,
        "standard_error": error,
        "error_in_standard_errors": (estimate - problem.truth) / error,
        "seconds": found.seconds,
        "nanoseconds_per_particle_and_step": 1e9 * found.seconds / steps,
        "health": _health(found),
    }


def _health(found: Filtered) -> str:
    failed = [f"{check.name} {check.measured}" for check in found.checks if check.passed is not True]
    return "; ".join(failed) or "passed"


def level(num_steps: int) -> Problem:
    """An autoregressive level, seen with noise."""
    space = StateSpace(
        lambda: dist.Normal(0.0, 1.0),
        lambda time, state: dist.Normal(DECAY * state, DRIFT),
        lambda time, state: dist.Normal(state, NOISE),
    )
    y = space.simulate(num_steps, seed=2)[1].numpy()
    one = np.eye(1)
    return Problem("level", space, y, kalman(y[:, None], DECAY * one, DRIFT**2 * one, one, NOISE**2 * one))


def guided(space: StateSpace) -> StateSpace:
    """The level with the proposal that knows the next observation."""

    def proposal(time: int, state: torch.Tensor | None, observed: torch.Tensor) -> dist.Normal:
        mean, variance = (torch.zeros(1), 1.0) if state is None else (DECAY * state, DRIFT**2)
        precision = 1.0 / variance + 1.0 / NOISE**2
        return dist.Normal((mean / variance + observed / NOISE**2) / precision, precision**-0.5)

    return StateSpace(space.initial, space.transition, space.observation, proposal)


def tracking(num_steps: int) -> Problem:
    """Place and speed in two dimensions, of which the place is seen; a fifth of the observations are missing."""
    move = torch.eye(4, dtype=torch.float64)
    move[0, 2] = move[1, 3] = STEP
    sds = torch.tensor([0.1, 0.1, PUSH, PUSH], dtype=torch.float64)
    space = StateSpace(
        lambda: dist.Normal(torch.zeros(4), 1.0).to_event(1),
        lambda time, state: dist.Normal(state @ move.mT, sds).to_event(1),
        lambda time, state: dist.Normal(state[:, :2], SIGHT).to_event(1),
    )
    y = space.simulate(num_steps, seed=3)[1].numpy()
    y[np.random.default_rng(4).random(num_steps) < 0.2] = math.nan
    matrix, seen = move.numpy(), np.eye(4)[:2]
    return Problem("tracking", space, y, kalman(y, matrix, np.diag(sds.numpy() ** 2), seen, SIGHT**2 * np.eye(2)))


def kalman(y: np.ndarray, move: np.ndarray, drift: np.ndarray, seen: np.ndarray, noise: np.ndarray) -> float:
    """Log evidence in nats of a linear-Gaussian model that starts from a standard normal."""
    mean, covariance, total = np.zeros(len(move)), np.eye(len(move)), 0.0
    for time, value in enumerate(y):
        if time:
            mean, covariance = move @ mean, move @ covariance @ move.T + drift
        if np.isnan(value).any():
            continue
        spread = seen @ covariance @ seen.T + noise
        away = value - seen @ mean
        total -= 0.5 * (away @ np.linalg.solve(spread, away) + np.linalg.slogdet(2.0 * np.pi * spread)[1])
        gain = np.linalg.solve(spread, seen @ covariance).T
        mean, covariance = mean + gain @ away, covariance - gain @ seen @ covariance
    return float(total)


def regimes(num_steps: int) -> Problem:
    """A hidden Markov model of three levels."""
    space = StateSpace(
        lambda: dist.Categorical(torch.ones(3) / 3.0),
        lambda time, state: dist.Categorical(MOVES[state]),
        lambda time, state: dist.Normal(LEVELS[state], 0.8),
    )
    y = space.simulate(num_steps, seed=5)[1].numpy()
    densities: Callable[[float], torch.Tensor] = lambda value: dist.Normal(LEVELS, 0.8).log_prob(torch.tensor(value))  # noqa: E731
    forward = torch.full((3,), 1.0 / 3.0, dtype=torch.float64).log() + densities(y[0])
    for value in y[1:]:
        forward = (forward[:, None] + MOVES.log()).logsumexp(0) + densities(value)
    return Problem("regimes", space, y, float(forward.logsumexp(0)))
