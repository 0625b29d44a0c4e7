"""Newton's method with conjugate gradients inside a trust region, for deterministic objectives."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ppl_models.inference.course import CONVERGED, DIVERGED, MAX_STEPS, OUT_OF_TIME
from ppl_models.progress import Update

Product = Callable[[np.ndarray], np.ndarray]

DECREMENT = 1e-10
"""Nats that the quadratic model still promises at the end; the step that promises them is made."""
ROUNDING = 16.0
"""Promises below so many rounding errors of the loss cannot be verified."""
ACCEPTED, POOR, GOOD = 1e-4, 0.25, 0.75
"""Shares of the promised decrease: for a step to be taken, the region to shrink, and to grow."""
SMALLEST, LARGEST = 1e-12, 1e12


class Objective(Protocol):
    """What is minimised, in coordinates of about unit scale."""

    def __call__(self, point: np.ndarray) -> tuple[float, np.ndarray]:
        """The loss in nats and its gradient; not finite where there is none."""
        ...

    def curvature(self, point: np.ndarray) -> Product:
        """Products with the Hessian at a point."""
        ...

    def runs_away(self, point: np.ndarray) -> np.ndarray:
        """Which dims have no bound."""
        ...


@dataclass(frozen=True)
class Minimum:
    """Where the search ended.

    Attributes:
        point: the best point.
        loss: there, in nats.
        losses: at the start and after every iteration.
        decrement: nats that the quadratic model promised at the last point but one.
        limit: what it must not exceed.
        status: "converged", "max_steps", "out_of_time" or "diverged".
    """

    point: np.ndarray
    loss: float
    losses: tuple[float, ...]
    decrement: float
    limit: float
    status: str


def minimise(
    objective: Objective,
    start: np.ndarray,
    *,
    max_steps: int,
    deadline: float,
    update: Update,
    precision: float = float(np.finfo(float).eps),
) -> Minimum:
    """Minimise a smooth function from a point at which it is finite.

    The steps solve Newton's equations by conjugate gradients, as far as they promise a decrease and stay in a region
    in which the quadratic model has held (Steihaug 1983, The conjugate gradient method and trust regions in large
    scale optimization). A step to where the loss is not finite shrinks the region.

    Args:
        objective: loss, gradient and curvature.
        start: shape (number,).
        max_steps: most iterations.
        deadline: `time.perf_counter()` at which to end.
        update: shows progress.
        precision: relative rounding error of the loss.
    """
    point, radius, promised = start, float(np.sqrt(len(start))), np.inf
    loss, gradient = objective(point)
    losses = [loss]
    least = DECREMENT
    for number in range(1, max_steps + 1):
        least = max(DECREMENT, ROUNDING * precision * abs(loss))
        if time.perf_counter() > deadline:
            return Minimum(point, loss, tuple(losses), promised, least, OUT_OF_TIME)
        if objective.runs_away(point).any() or radius < SMALLEST:
            return Minimum(point, loss, tuple(losses), promised, least, DIVERGED)
        step, promised, inside = steihaug(objective.curvature(point), gradient, radius)
        trial = point + step
        found, slope = objective(trial)
        finite = bool(np.isfinite(found) and np.isfinite(slope).all())
        if inside and promised <= least:
            if finite and np.linalg.norm(slope) <= np.linalg.norm(gradient):
                point, loss = trial, found
            return Minimum(point, loss, (*losses, loss), promised, least, CONVERGED)
        share = (loss - found) / promised if finite else -np.inf
        if share < POOR:
            radius = 0.25 * float(np.linalg.norm(step))
        elif share > GOOD and not inside:
            radius = min(2.0 * radius, LARGEST)
        if share > ACCEPTED:
            point, loss, gradient = trial, found, slope
        losses.append(loss)
        update(number, f"{loss:,.3f}")
    return Minimum(point, loss, tuple(losses), promised, least, MAX_STEPS)


def steihaug(product: Product, gradient: np.ndarray, radius: float) -> tuple[np.ndarray, float, bool]:
    """A step that lowers the quadratic model: the step, the decrease it promises, and whether it ends in the region."""
    length = float(np.linalg.norm(gradient))
    step, residual, direction = np.zeros_like(gradient), gradient, -gradient
    curved = np.zeros_like(gradient)
    for _ in range(2 * len(gradient)):
        if np.linalg.norm(residual) <= min(0.1, length) * length:
            return step, _promise(gradient, step, curved), True
        along = product(direction)
        bend = float(direction @ along)
        if not np.isfinite(bend):
            break
        size = float(residual @ residual) / bend if bend > 0.0 else np.inf
        if bend <= 0.0 or np.linalg.norm(step + size * direction) >= radius:
            size = _to_edge(step, direction, radius)
            step, curved = step + size * direction, curved + size * along
            return step, _promise(gradient, step, curved), False
        step, curved = step + size * direction, curved + size * along
        found = residual + size * along
        direction = -found + float(found @ found) / float(residual @ residual) * direction
        residual = found
    if not step.any():
        step = -gradient * min(1.0, radius / length)
        return step, max(-float(gradient @ step), np.finfo(float).tiny), False
    return step, _promise(gradient, step, curved), True


def _promise(gradient: np.ndarray, step: np.ndarray, curved: np.ndarray) -> float:
    return -float(gradient @ step) - 0.5 * float(step @ curved)


def _to_edge(step: np.ndarray, direction: np.ndarray, radius: float) -> float:
    """The positive t with |step + t direction| = radius."""
    a, b = float(direction @ direction), float(step @ direction)
    c = float(step @ step) - radius * radius
    return (-b + float(np.sqrt(max(b * b - a * c, 0.0)))) / a
