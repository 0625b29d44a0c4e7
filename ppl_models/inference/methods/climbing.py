"""To a mode by Newton's method with exact Hessians, and what stands at the end: a mode, a saddle, a flat top, or none.

Each step tries, in one batched call, many lengths of Newton's step and many dampings of it (Levenberg and Marquardt's
trust region) and takes the best, so that no evaluation waits for another. Curvatures are taken by size (Dauphin et al.
2014, Identifying and attacking the saddle point problem), in the unit of each latent's own curvature, and arrival is
told by Newton's decrement, so that nothing depends on the scale in which the latents are measured.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ppl_models.engine import Target
from ppl_models.inference.methods.few_sizes import FewSizes
from ppl_models.progress import Update

MODE, SADDLE, FLAT, ENDLESS = "mode", "saddle", "flat", "endless"
UNFINISHED, LATE, NOWHERE = "unfinished", "late", "nowhere"

ARRIVED = 1e-14
"""Nats that a full step would gain, at a mode: the point is off by about 1e-7 standard deviations."""
ROUNDED = 1e-8
"""Nats at a mode where the rounding of the gradient allows no better."""
TINY = 1e-25
"""Nats that are rounding at once."""
NEAR, MOST_NEAR = 1e-3, 8
"""From so many nats on, Newton's method ends in a few steps: the gain is squared in each. Towards a mode at infinity it
falls by a factor only."""
NO_CURVATURE = 1e-13
"""A share of the largest curvature, in the latents' own units, that rounding alone may give."""
LARGEST_SCALE = 1e12
"""A latent whose standard deviation would be larger has none."""
LEVEL = 1e-6
"""Nats below which a slope is none, where there is no curvature to compare it with."""
SQUARED, STALLED = 0.02, 0.6
"""Towards a mode at infinity the gain falls to a share between these in each step (in an exponential tail, to 0.37)."""
LENGTHS = np.array([4.0, 2.0, 1.0, 0.5, 0.25, 1.0 / 16.0, 1.0 / 256.0, 1.0 / 65536.0])
DAMPINGS = 10.0 ** np.arange(-4.0, 4.0)
ASIDE = np.array([1.0, 0.1, 0.01])
MOST_TRIES = 1 + len(LENGTHS) + len(DAMPINGS) + 2 * len(ASIDE)
"""Points of one call."""


@dataclass(frozen=True)
class Top:
    """Where a climb ended.

    Attributes:
        point: shape (dim,).
        value: log density there, in nats.
        precision: minus the Hessian there, shape (dim, dim).
        root: a square root of the inverse of the precision, lower triangular, shape (dim, dim); None where it is not
            positive definite.
        gain: nats that a full step would gain, half of Newton's squared decrement; inf where the precision is not
            positive definite.
        kind: "mode"; "saddle" or "flat", with no way up; "endless": no mode in reach; "unfinished" or "late", ended by
            the number of steps or the deadline; "nowhere": the density was not finite.
        dims: the latents behind a saddle, a flat direction or an endless one.
        values: log density by step.
    """

    point: np.ndarray
    value: float
    precision: np.ndarray
    root: np.ndarray | None
    gain: float
    kind: str
    dims: tuple[int, ...] = ()
    values: tuple[float, ...] = ()


def climb(
    target: Target | FewSizes, start: np.ndarray, *, max_steps: int, deadline: float, update: Update | None = None
) -> Top:
    """Climb from a start, shape (dim,), for at most `max_steps` Newton steps.

    Args:
        target: the log density.
        start: where to begin.
        max_steps: most Newton steps.
        deadline: `time.perf_counter()` at which to end.
        update: shows progress.
    """
    point = start
    value, gradient = target.at(point)
    values = [value]
    if not (np.isfinite(value) and np.isfinite(gradient).all()):
        return Top(point, value, np.full((len(point),) * 2, np.nan), None, np.inf, NOWHERE, (), (value,))
    gains: list[float] = []
    while True:
        shape = _Shape.of(-target.hessian(point), gradient)
        top = Top(point, value, shape.precision, shape.root(), shape.gain, UNFINISHED, (), tuple(values))
        if shape.gain <= NEAR:
            gains.append(shape.gain)
            kind = _at_the_end(gains)
            if kind is not None:
                return replace(top, kind=kind, dims=shape.moving() if kind == ENDLESS else ())
        if len(values) > max_steps:
            endless = top.root is None
            return replace(top, kind=ENDLESS if endless else UNFINISHED, dims=shape.culprits() if endless else ())
        if time.perf_counter() >= deadline:
            return replace(top, kind=LATE)
        tries = point + shape.steps(near=shape.gain <= NEAR)
        found, slopes = target(tries)
        usable = np.isfinite(found) & np.isfinite(slopes).all(axis=1)
        found = np.where(usable, found, -np.inf)
        chosen = int(np.argmax(found))
        if shape.gain <= NEAR and usable[0] and found[0] > value - ROUNDED * max(1.0, abs(value)):
            chosen = 0  # here the values differ by rounding only, and the gradient knows better
        elif not found[chosen] > value:
            return _stuck(top, shape)
        point, value, gradient = tries[chosen], float(found[chosen]), slopes[chosen]
        values.append(value)
        if update is not None:
            update(len(values) - 1, f"log density {value:,.2f}")


def _at_the_end(gains: Sequence[float]) -> str | None:
    """A mode, or none in reach, by the gains that Newton's last steps promised; None where that cannot be told yet.

    Towards a mode each is about the square of the one before, or, at last, rounding; towards infinity, a share of it.
    """
    if gains[-1] <= TINY:
        return MODE
    shares = np.array(gains[1:]) / np.array(gains[:-1])
    falling = (shares > SQUARED) & (shares < STALLED)
    if len(shares) and not falling[-1] and gains[-1] <= (ARRIVED if len(gains) <= MOST_NEAR else ROUNDED):
        return MODE
    geometric = len(shares) >= MOST_NEAR // 2 and bool(falling[-(MOST_NEAR // 2) :].all())
    return ENDLESS if geometric or len(gains) > 2 * MOST_NEAR else None


def _stuck(top: Top, shape: "_Shape") -> Top:
    if top.root is not None:
        return replace(top, kind=MODE if top.gain <= ROUNDED * max(1.0, abs(top.value)) else UNFINISHED)
    if shape.sloping > max(LEVEL, 1e-14 * abs(top.value)):
        return replace(top, kind=ENDLESS, dims=shape.culprits())
    return replace(top, kind=SADDLE if shape.bends_up else FLAT, dims=shape.culprits())


@dataclass(frozen=True)
class _Shape:
    """Slope and curvature at a point, in units in which each latent has curvature one along itself.

    Attributes:
        precision: minus the Hessian.
        unit: shape (dim,): standard deviation of each latent given all others, 1 where it has no curvature.
        curvature: along the axes, ascending.
        axes: shape (dim, dim), a column each.
        slope: along the axes.
        endless: whether a latent has no curvature at all.
    """

    precision: np.ndarray
    unit: np.ndarray
    curvature: np.ndarray
    axes: np.ndarray
    slope: np.ndarray
    endless: np.ndarray

    @staticmethod
    def of(precision: np.ndarray, gradient: np.ndarray) -> "_Shape":
        precision = np.where(np.isfinite(precision), precision, 0.0)
        size = np.abs(np.diag(precision))
        endless = size <= LARGEST_SCALE**-2
        unit = 1.0 / np.sqrt(np.where(endless, 1.0, size))
        curvature, axes = np.linalg.eigh(precision * np.outer(unit, unit))
        return _Shape(precision, unit, curvature, axes, axes.T @ (unit * gradient), endless)

    @property
    def floor(self) -> float:
        return NO_CURVATURE * max(1.0, float(np.abs(self.curvature).max()))

    @property
    def bends_up(self) -> bool:
        return bool(self.curvature[0] < -1e3 * self.floor)

    @property
    def proper(self) -> bool:
        return bool(self.curvature[0] > self.floor) and not self.endless.any()

    @property
    def gain(self) -> float:
        return float(0.5 * (np.square(self.slope) / self.curvature).sum()) if self.proper else float("inf")

    @property
    def sloping(self) -> float:
        """Nats promised by a step by the size of the curvatures; where there is none, by one of the latents' units."""
        size = np.abs(self.curvature)
        flat = size <= self.floor
        promised = np.where(flat, np.abs(self.slope), 0.5 * np.square(self.slope) / np.where(flat, 1.0, size))
        return float(promised.sum())

    def root(self) -> np.ndarray | None:
        """The Cholesky factor of the inverse precision."""
        if not self.proper:
            return None
        half = self.unit[:, None] * self.axes / np.sqrt(self.curvature)
        upper: Any = np.linalg.qr(half.T, mode="r")
        return (upper * np.where(np.diag(upper) < 0.0, -1.0, 1.0)[:, None]).T

    def steps(self, *, near: bool) -> np.ndarray:
        """Steps to try, shape (try, dim), the full one first."""
        size = np.abs(self.curvature)
        size = np.where(size > self.floor, size, np.maximum(np.abs(self.slope), self.floor))
        newton = self.slope / size
        own = [newton] if near else [newton, *(LENGTHS[:, None] * newton)]
        own += [] if near else [self.slope / (size + damping) for damping in DAMPINGS]
        if self.bends_up:
            lowest = np.zeros(len(size))
            lowest[0] = 1.0 / np.sqrt(size[0])
            own += [sign * length * lowest for length in ASIDE for sign in (1.0, -1.0)]
        return (np.array(own) @ self.axes.T) * self.unit

    def culprits(self) -> tuple[int, ...]:
        """The latents that have no curvature of their own, or else those along the axis of the least curvature."""
        if self.endless.any():
            return tuple(np.flatnonzero(self.endless).tolist())
        return _largest(self.axes[:, 0])

    def moving(self) -> tuple[int, ...]:
        """The latents that Newton's step moves most."""
        return _largest(self.axes @ (self.slope / np.maximum(np.abs(self.curvature), self.floor)))


def _largest(direction: np.ndarray) -> tuple[int, ...]:
    size = np.abs(direction)
    return tuple(np.flatnonzero(size >= 0.5 * size.max()).tolist())
