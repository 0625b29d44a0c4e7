"""A first look at a target: the normal that is nearest to it, found by natural-gradient steps on a few draws.

The ELBO of a normal N(m, A Aᵀ) has, in the normal's own coordinates z = m + A e, the gradient E[∇ log p] in m and
the curvature -E[∇² log p]; the step that both suggest (Opper and Archambeau 2009, The variational Gaussian
approximation revisited; Khan and Rue 2023, The Bayesian learning rule) is Newton's method smoothed over the normal,
and does not depend on the scale in which the latents are measured. The mean curvature is read off gradients alone:
over antithetic pairs of draws, half the difference of the gradients is regressed on the noise, which for a normal
target gives its precision exactly, with as many pairs as dimensions (Price's theorem by least squares).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Gradient = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Takes points, shape (point, dim); returns log densities in nats, (point,), and gradients, (point, dim)."""

MAX_DENSE = 200
"""With more dimensions the normal's covariance is diagonal."""
MIN_PAIRS = 32
MAX_STEPS = 80
SMALLEST_CURVATURE = 1.0 / 16.0
"""In the normal's own coordinates; so that no scale grows more than fourfold in a step."""
NO_CURVATURE = 0.25
"""What a direction without, or with negative, curvature is given instead."""
QUIET_STEPS, QUIET_GAIN = 5, 0.02
"""The look ends after so many steps in a row that each gained no more nats than this and two standard errors."""
SMALLEST_SHARE = 1.0 / 64.0
SHRINK = 0.5
ENDLESS = 1e8
"""A scale that has grown by this factor, on and on, is none."""
LATE_STEPS, LATE_GROWTH = 20, 100.0
"""On and on: still by this factor in so many last steps."""
ROUNDED = 1e14
"""A scale that has grown by this factor is none either: what ends it is the rounding of sums with other latents."""


@dataclass(frozen=True)
class Normal:
    """A normal approximation of a target in unconstrained space.

    Attributes:
        mean: shape (dim,).
        root: a square root of the covariance, shape (dim, dim) with covariance root @ root.T, or (dim,) with the
            standard deviations, where the covariance is diagonal.
        elbo: its ELBO in nats, from as many draws as a step takes, the same noise for every normal; -inf where no point
            was finite.
        num_steps: steps made.
        endless: dims along which the scale kept growing: the target seems to have none there.
    """

    mean: np.ndarray
    root: np.ndarray
    elbo: float
    num_steps: int
    endless: tuple[int, ...] = ()

    @property
    def scale_tril(self) -> np.ndarray:
        """The covariance's Cholesky factor, shape (dim, dim)."""
        if self.root.ndim == 1:
            return np.diag(self.root)
        upper: Any = np.linalg.qr(self.root.T, mode="r")
        return (upper * np.where(np.diag(upper) < 0.0, -1.0, 1.0)[:, None]).T

    @property
    def scale(self) -> np.ndarray:
        """Standard deviations, shape (dim,)."""
        return self.root if self.root.ndim == 1 else np.sqrt(np.square(self.root).sum(axis=1))

    @property
    def conditional_scale(self) -> np.ndarray:
        """Standard deviation of each latent given all others, shape (dim,): a mean-field normal's best."""
        if self.root.ndim == 1:
            return self.root
        return 1.0 / np.sqrt(np.square(np.linalg.inv(self.root)).sum(axis=0))


def num_pairs(num_dims: int) -> int:
    """Antithetic pairs of draws that `approximate` takes in each step."""
    if num_dims > MAX_DENSE:
        return 2 * MIN_PAIRS
    return max(MIN_PAIRS, min(2 * num_dims, num_dims + MIN_PAIRS))


def approximate(gradient: Gradient, mean: np.ndarray, scale: np.ndarray, rng: np.random.Generator) -> Normal:
    """The normal nearest to a target, roughly (by tenths of a nat), from a start that may be far away.

    Args:
        gradient: the target's log density and gradient; called with 2 * `num_pairs` points.
        mean: start, shape (dim,).
        scale: standard deviations at the start, shape (dim,), positive.
        rng: gives the noise.
    """
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return _approximate(gradient, mean, scale, rng)


def _approximate(gradient: Gradient, mean: np.ndarray, scale: np.ndarray, rng: np.random.Generator) -> Normal:
    dense = len(mean) <= MAX_DENSE
    state = _State(mean.astype(float), np.diag(scale).astype(float) if dense else scale.astype(float))
    first, late, quiet, elbo, number = state.logs(), state.logs(), 0, -np.inf, 0
    for number in range(1, MAX_STEPS + 1):
        late = state.logs() if number == MAX_STEPS - LATE_STEPS else late
        noise = rng.standard_normal((num_pairs(len(mean)), len(mean)))
        values, gradients = gradient(state.points(noise))
        if not (np.isfinite(values).all() and np.isfinite(gradients).all()):
            state = state.shrunk(SHRINK)
            quiet = 0
            continue
        best = _best_share(gradient, state, noise, _pair_means(values), state.direction(noise, gradients))
        if best is None:
            state = state.shrunk(SHRINK)
            quiet = 0
            continue
        state, gain, error, level = best
        elbo = level + state.log_scale + 0.5 * len(mean) * (1.0 + np.log(2.0 * np.pi))
        quiet = quiet + 1 if gain < QUIET_GAIN + 2.0 * error else 0
        if quiet >= QUIET_STEPS:
            break
    grown, lately = state.logs() - first, state.logs() - late
    on_and_on = (number == MAX_STEPS) & (grown > np.log(ENDLESS)) & (lately > np.log(LATE_GROWTH))
    endless = tuple(np.flatnonzero(on_and_on | (grown > np.log(ROUNDED))).tolist())
    scored = _elbo(gradient, state)
    return Normal(state.mean, state.root, scored if np.isfinite(scored) else float(elbo), number, endless)


def _elbo(gradient: Gradient, state: "_State") -> float:
    """The ELBO on noise that is the same for every normal of so many dims; exact where the target is the normal."""
    dim = len(state.mean)
    noise = np.random.default_rng(0).standard_normal((num_pairs(dim), dim))
    values, _ = gradient(state.points(noise))
    ratio = _pair_means(values) + 0.5 * np.square(noise).sum(axis=1)
    return float(ratio.mean()) + state.log_scale + 0.5 * dim * float(np.log(2.0 * np.pi))


@dataclass(frozen=True)
class _Direction:
    """A step in the normal's own coordinates: of the mean, and of the log scale along orthogonal axes."""

    mean: np.ndarray
    log_scale: np.ndarray
    axes: np.ndarray | None


@dataclass(frozen=True)
class _State:
    mean: np.ndarray
    root: np.ndarray

    @property
    def log_scale(self) -> float:
        """Log determinant of the root."""
        return float(np.log(self.root).sum() if self.root.ndim == 1 else np.linalg.slogdet(self.root)[1])

    def logs(self) -> np.ndarray:
        """Log standard deviations, shape (dim,)."""
        return np.log(self.root) if self.root.ndim == 1 else 0.5 * np.log(np.square(self.root).sum(axis=1))

    def points(self, noise: np.ndarray) -> np.ndarray:
        """Antithetic draws, shape (2 * pair, dim)."""
        away = noise * self.root if self.root.ndim == 1 else noise @ self.root.T
        return np.concatenate([self.mean + away, self.mean - away])

    def shrunk(self, factor: float) -> "_State":
        return _State(self.mean, self.root * factor)

    def direction(self, noise: np.ndarray, gradients: np.ndarray) -> _Direction:
        """The natural-gradient step from gradients at `points(noise)`."""
        own = gradients * self.root if self.root.ndim == 1 else gradients @ self.root
        slope = own.mean(axis=0)
        halves = 0.5 * (own[: len(noise)] - own[len(noise) :])
        if self.root.ndim == 1:
            curvature = -(noise * halves).sum(axis=0) / np.square(noise).sum(axis=0)
            return _Direction(slope / _positive(curvature), _growth(curvature), None)
        found = np.linalg.lstsq(noise, halves, rcond=None)[0]
        values, axes = np.linalg.eigh(-0.5 * (found + found.T))
        return _Direction(axes @ ((axes.T @ slope) / _positive(values)), _growth(values), axes)

    def moved(self, step: _Direction, share: float) -> "_State":
        """Part of the way: along the geodesic of the scales, which stay positive."""
        factor = np.exp(share * step.log_scale)
        if step.axes is None:
            return _State(self.mean + share * self.root * step.mean, self.root * factor)
        return _State(self.mean + share * (self.root @ step.mean), self.root @ (step.axes * factor))


def _positive(curvature: np.ndarray) -> np.ndarray:
    return np.where(
        curvature > 0.0,
        np.maximum(curvature, SMALLEST_CURVATURE),
        np.maximum(np.abs(curvature), NO_CURVATURE),
    )


def _growth(curvature: np.ndarray) -> np.ndarray:
    # Where the target bends upwards a wider normal is better, however strong the bend.
    return -0.5 * np.log(np.where(curvature > 0.0, np.maximum(curvature, SMALLEST_CURVATURE), NO_CURVATURE))


def _pair_means(values: np.ndarray) -> np.ndarray:
    return values.reshape(2, -1).mean(axis=0)


def _best_share(
    gradient: Gradient, state: _State, noise: np.ndarray, before: np.ndarray, step: _Direction
) -> tuple[_State, float, float, float] | None:
    """The largest share of a step that does not lower the ELBO: new state, gain, its standard error, E[log p].

    Old and new ELBO are compared on the same noise.
    """
    share = 1.0
    while share >= SMALLEST_SHARE:
        moved = state.moved(step, share)
        values, _ = gradient(moved.points(noise))
        after = _pair_means(values)
        if np.isfinite(after).all():
            difference = after - before
            error = float(difference.std(ddof=1) / np.sqrt(len(difference)))
            gain = float(difference.mean()) + moved.log_scale - state.log_scale
            # Rounding alone may take from a step that changes nothing.
            if gain > -min(QUIET_GAIN + 2.0 * error, 0.5):
                return moved, gain, error, float(after.mean())
        share *= 0.5
    return None
