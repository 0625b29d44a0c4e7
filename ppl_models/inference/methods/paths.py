"""L-BFGS paths to modes, in step with one another, and the ELBO of the normal that each point of a path suggests.

Every round makes one call of the target for all paths: some lengths of each path's step, of which the best is taken,
and draws from each path's present normal, N(x + H g, H) with x the path's point, g the gradient and H the estimate of
the inverse Hessian (Zhang, Carpenter, Gelman and Vehtari 2022, Pathfinder: parallel quasi-Newton variational
inference).
"""

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ppl_models.engine import Target
from ppl_models.inference.methods.few_sizes import FewSizes
from ppl_models.inference.methods.inverse_hessians import Factored, History
from ppl_models.inference.methods.normals import LOG_TWO_PI
from ppl_models.inference.preconditioning.pilot import Normal
from ppl_models.progress import Update

ARRIVED, STUCK, UNFINISHED, LATE = "arrived", "stuck", "unfinished", "late"
LENGTHS = np.array([4.0, 1.0, 0.25, 1.0 / 16.0])
SHORTER = 1.0 / 256.0
SHORTEST = 1e-30
ARMIJO = 1e-4
"""Share of the promised gain that a step must bring."""
ROUNDING = 1.6e-14
"""Share of a log density below which its differences are rounding."""


@dataclass(frozen=True)
class Suggested:
    """A normal that a path suggests.

    Attributes:
        mean: shape (dim,).
        shape: its covariance.
        elbo: in nats, by a few draws.
        step: of the path.
        diagonal: whether the covariance is taken diagonal.
    """

    mean: np.ndarray
    shape: Factored
    elbo: float
    step: int
    diagonal: bool

    def normal(self) -> Normal:
        """The normal; a diagonal one has the standard deviations of each latent given all others."""
        root = self.shape.conditional_scale()[0] if self.diagonal else self.shape.root(0)
        return Normal(self.mean, root, self.elbo, self.step)


@dataclass
class Path:
    """A path, as far as it came.

    Attributes:
        point: the last, shape (dim,).
        value: log density there, in nats.
        gradient: there, shape (dim,).
        gain: nats that the next step promised.
        kind: "arrived", "stuck", "unfinished" or "late".
        steps: made.
        best: the normal of the best ELBO; None where no normal's draws had a finite density.
    """

    point: np.ndarray
    value: float
    gradient: np.ndarray
    gain: float = np.inf
    kind: str = UNFINISHED
    steps: int = 0
    best: Suggested | None = None


@dataclass
class Walk:
    """Paths from several starts, until each has arrived or is stuck.

    Attributes:
        target: the log density.
        starts: shape (path, dim); the density is finite there.
        diagonal: first guesses of the inverse Hessians' diagonals, shape (path, dim).
        noise: that the ELBOs are estimated on, the same for all, shape (draw, dim).
        history: pairs of steps and slopes that are kept.
        arrived: nats that the next step of a path may promise at its end.
        diagonal_covariance: whether the normals' covariances are taken diagonal.
        patience: a path ends, unfinished, when its best ELBO is so many rounds old; None for never.
        losses: minus the best ELBO so far of any path's normal, in nats, by round.
        felt: whether the log density had a slope along a dim at any point so far, shape (dim,).
    """

    target: Target | FewSizes
    starts: np.ndarray
    diagonal: np.ndarray
    noise: np.ndarray
    history: int
    arrived: float
    diagonal_covariance: bool = False
    patience: int | None = None
    losses: list[float] = field(default_factory=list)
    felt: np.ndarray = field(init=False)

    def run(self, max_steps: int, deadline: float, update: Update) -> list[Path]:
        """Walk for at most `max_steps` rounds, or up to the deadline."""
        values, gradients = self.target(self.starts)
        self.felt = (gradients != 0.0).any(axis=0)
        paths = [Path(*state) for state in zip(self.starts, values, gradients, strict=True)]
        memory = History(self.diagonal, self.history)
        active = np.isfinite(values) & np.isfinite(gradients).all(axis=1)
        base = np.ones(len(paths))
        for number in range(1, max_steps + 1):
            if not active.any():
                break
            if time.perf_counter() >= deadline:
                for path in np.array(paths, dtype=object)[active]:
                    path.kind = LATE
                break
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                self._round(paths, memory, active, base, number)
            update(number, f"best ELBO {-min(self.losses):,.2f}" if self.losses else "")
        return paths

    def _round(self, paths: list[Path], memory: History, active: np.ndarray, base: np.ndarray, number: int) -> None:
        points = np.stack([path.point for path in paths])
        gradients = np.stack([path.gradient for path in paths])
        shape = memory.factored()
        spoilt: Any = ~np.isfinite(shape.times(gradients)).all(axis=1)
        if spoilt.any():
            memory.forget(spoilt)
            shape = memory.factored()
        steps = shape.times(gradients)
        slopes = (steps * gradients).sum(axis=1)
        lengths = base[:, None] * LENGTHS
        tries = points[:, None] + lengths[:, :, None] * steps[:, None]
        which = np.flatnonzero(active)
        values, found_gradients, elbos = self._asked(tries, points + steps, shape, which)
        moved = np.zeros(len(paths), dtype=bool)
        for row, index in enumerate(which):
            path = paths[index]
            if np.isfinite(elbos[row]) and (path.best is None or elbos[row] > path.best.elbo):
                one = Factored(shape.unit[[index]], shape.axes[[index]], shape.eigenvalues[[index]])
                mean = points[index] + steps[index]
                path.best = Suggested(mean, one, float(elbos[row]), number, self.diagonal_covariance)
            path.gain = 0.5 * float(slopes[index])
            old = self.patience is not None and number - (path.best.step if path.best else 0) > self.patience
            if path.gain <= self.arrived or old:
                path.kind, active[index] = UNFINISHED if old else ARRIVED, False
                continue
            gains = values[row] - path.value
            good = np.isfinite(gains) & np.isfinite(found_gradients[row]).all(axis=1)
            good &= gains > ARMIJO * lengths[index] * slopes[index]
            if good.any():
                chosen = int(np.argmax(np.where(good, gains, -np.inf)))
                path.point, path.value = tries[index, chosen], float(values[row, chosen])
                path.gradient, path.steps = found_gradients[row, chosen], path.steps + 1
                base[index], moved[index] = 1.0, True
                continue
            base[index] *= SHORTER
            # The values' rounding hides gains smaller than that.
            hidden = path.gain <= ROUNDING * max(1.0, abs(path.value))
            if hidden or base[index] < SHORTEST:
                path.kind, active[index] = ARRIVED if hidden else STUCK, False
        new = np.stack([path.point for path in paths])
        bends = gradients - np.stack([path.gradient for path in paths])
        memory.add(new - points, bends, moved)

    def _asked(
        self, tries: np.ndarray, means: np.ndarray, shape: Factored, which: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Log densities and gradients at some paths' tries, (path, try, ...), and their normals' ELBOs, (path,)."""
        scale = shape.conditional_scale()
        noise = np.broadcast_to(self.noise, (len(means), *self.noise.shape))
        away = scale[:, None] * noise if self.diagonal_covariance else shape.spread(noise)
        asked = np.concatenate([tries, means[:, None] + away], axis=1)[which]
        flat, slopes = self.target(asked.reshape(-1, asked.shape[-1]))
        self.felt |= (slopes != 0.0).any(axis=0)
        found, count = flat.reshape(len(which), -1), tries.shape[1]
        log_scale = np.log(scale).sum(axis=1) if self.diagonal_covariance else shape.log_scale()
        constant = 0.5 * np.square(self.noise).sum(axis=1) + 0.5 * means.shape[1] * LOG_TWO_PI
        elbos = (found[:, count:] + constant).mean(axis=1) + log_scale[which]
        elbos = np.where(np.isfinite(elbos), elbos, -np.inf)
        self.losses.append(min([-float(elbos.max()), *self.losses[-1:]]))
        return found[:, :count], slopes.reshape(asked.shape)[:, :count], elbos
