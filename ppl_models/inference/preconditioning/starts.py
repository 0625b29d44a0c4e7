"""Points at which a target has a finite log density, for methods to begin at."""

import numpy as np
import torch

from ppl_models.engine import Target
from ppl_models.program import Program
from ppl_models.program.batching import NOT_VECTORISABLE

NUM_TRIES = 100
ELSEWHERE = "start: the log density was not finite at the initial values; begun elsewhere"


def starting_points(
    target: Target, begin: np.ndarray, others: int, *, from_prior: bool
) -> tuple[list[np.ndarray], str]:
    """Points with a finite log density, and a note where they are not what was asked for.

    Args:
        target: the log density; call this in its world.
        begin: the first point, shape (dim,).
        others: how many draws of the prior beside it.
        from_prior: whether draws of the prior take the first point's place.
    """
    program = target.program
    wanted = max(1, others) if from_prior else 1 + others
    tries = [] if from_prior else [begin]
    for _ in range(wanted if others or from_prior else 0):
        tries.append(prior_draw(program))
    found = [point for point in tries if finite_at(target, point)]
    if found and (from_prior or found[0] is begin):
        return found[:wanted], ""
    for number in range(NUM_TRIES):
        if found:
            break
        point = uniform_draw(program) if number % 2 else prior_draw(program)
        found = [point] if finite_at(target, point) else []
    if not found:
        return [], f"start: the log density was not finite at {len(tries) + NUM_TRIES} points of the prior and around 0"
    return found[:wanted], ELSEWHERE


def finite_prior_draw(target: Target) -> np.ndarray:
    """A draw of the prior at which the log density is finite; the last tried where none of many is."""
    point = uniform_draw(target.program)
    for number in range(NUM_TRIES):
        try:
            point = uniform_draw(target.program) if number % 2 else prior_draw(target.program)
        except NOT_VECTORISABLE:  # the prior may give parameters that are out of a likelihood's range
            continue
        if finite_at(target, point):
            break
    return point


def prior_draw(program: Program) -> np.ndarray:
    """The unconstrained vector of a draw of the prior."""
    with torch.no_grad():
        return program.prior_draw().double().cpu().numpy()


def uniform_draw(program: Program) -> np.ndarray:
    """A point of the cube from -2 to 2."""
    return 4.0 * torch.rand(program.num_dims, dtype=torch.float64).cpu().numpy() - 2.0


def finite_at(target: Target, point: np.ndarray) -> bool:
    """Whether log density and gradient are finite at a point."""
    if not np.isfinite(point).all():
        return False
    value, slope = target.at(point)
    return bool(np.isfinite(value) and np.isfinite(slope).all())
