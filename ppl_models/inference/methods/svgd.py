"""Stein variational gradient descent: particles that move until they stand for the posterior."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from ppl_models.inference.course import CONVERGED, DIVERGED, MAX_STEPS, OUT_OF_TIME
from ppl_models.inference.methods.approximations import Normal, Points
from ppl_models.inference.methods.beginning import no_scale, several_beginnings
from ppl_models.inference.methods.mean_field import ENDLESS
from ppl_models.inference.methods.method import Arrival, Found, Method, Work
from ppl_models.inference.methods.stein import stein_direction
from ppl_models.options import check_count
from ppl_models.seeds import child_seed

NUM_PARTICLES, LEAST_PARTICLES = 200, 4
DEFAULT_STEPS = 500
AT_REST = 2e-3
"""Root mean square velocity of particles at rest, in scales of the first look."""
FIRST_STEP, SMALLEST_STEP = 0.5, 1e-8
SLOWER, FASTER, WORSE = 0.5, 1.2, 1.02
"""Factors of the step: where the velocity rose beyond `WORSE` times the last, and where it did not."""
NUM_SHRINKS = 30
NOT_FINITE = "the log density was not finite around the start"
STOPPED = "the particles found no way on at which the log density was finite"


def run(work: Work) -> Found:
    """Move particles from a first look's normal, in its coordinates, until they are at rest.

    Raises:
        OptionError: an option is out of its range.
    """
    count = check_count("method_options: num_particles", work.options["num_particles"], least=LEAST_PARTICLES)
    normals, shares = several_beginnings(work)
    begin = _joined(normals, shares)
    flow = _Flow(work, begin)
    points = _drawn(normals, shares, begin, count, np.random.default_rng(child_seed(work.seed, "particles")))
    endless = np.isin(np.arange(len(begin.mean)), begin.endless)
    if endless.any():
        return Found(Points(flow.placed(points)), np.array([-begin.elbo]), DIVERGED, None, no_scale(work, endless))
    for _ in range(NUM_SHRINKS):
        loss, velocity = flow(points)
        if np.isfinite(velocity).all():
            return flow.at_rest(points, loss, velocity)
        points = 0.5 * points
    return Found(Points(flow.placed(points)), np.array([np.inf]), DIVERGED, None, NOT_FINITE)


def _joined(normals: list[Normal], shares: np.ndarray) -> Normal:
    """The normal with the mean and the covariance of a mixture; diagonal where its normals are."""
    if len(normals) == 1:
        return normals[0]
    means = np.array([normal.mean for normal in normals])
    mean = shares @ means
    away = np.sqrt(shares)[:, None] * (means - mean)
    if normals[0].root.ndim == 1:
        within = shares @ np.square([normal.root for normal in normals])
        return Normal(mean, np.sqrt(within + np.square(away).sum(axis=0)), normals[0].elbo, 0)
    roots = [np.sqrt(share) * normal.root for share, normal in zip(shares, normals, strict=True)]
    covariance = sum((root @ root.T for root in roots), away.T @ away)
    scale = np.sqrt(np.diag(covariance))
    return Normal(mean, scale[:, None] * np.linalg.cholesky(covariance / np.outer(scale, scale)), normals[0].elbo, 0)


def _drawn(
    normals: list[Normal], shares: np.ndarray, begin: Normal, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Draws of each normal, as many as its share wants, in the coordinates of `begin`."""
    noise = rng.standard_normal((count, len(begin.mean)))
    if len(normals) == 1:
        return noise
    owner = np.searchsorted(np.cumsum(shares), (np.arange(count) + 0.5) / count)
    away = np.empty_like(noise)
    for number, normal in enumerate(normals):
        own = noise[owner == number]
        out = own * normal.root if normal.root.ndim == 1 else own @ normal.root.T
        away[owner == number] = normal.mean + out - begin.mean
    return away / begin.root if begin.root.ndim == 1 else np.linalg.solve(begin.root, away.T).T


class _Flow:
    """The particles' movement in the coordinates of a normal."""

    def __init__(self, work: Work, begin: Normal):
        self.work, self.begin = work, begin

    def placed(self, points: np.ndarray) -> np.ndarray:
        """The particles in the unconstrained space."""
        root = self.begin.root
        return self.begin.mean + (points * root if root.ndim == 1 else points @ root.T)

    def __call__(self, points: np.ndarray) -> tuple[float, np.ndarray]:
        """Minus the mean log density in nats, and every particle's velocity."""
        root = self.begin.root
        with np.errstate(over="ignore", invalid="ignore"):
            values, slopes = self.work.target(self.placed(points))
            own = slopes * root if root.ndim == 1 else slopes @ root
            return -float(values.mean()), stein_direction(points, own)

    def at_rest(self, points: np.ndarray, loss: float, velocity: np.ndarray) -> Found:
        """Steps that are longer and longer while the velocity falls, and shorter where it rises."""
        size, speed, losses, status = FIRST_STEP, _rms(velocity), [loss], MAX_STEPS
        for number in range(1, (self.work.max_steps or DEFAULT_STEPS) + 1):
            if speed <= AT_REST:
                status = CONVERGED
                break
            if time.perf_counter() > self.work.deadline:
                status = OUT_OF_TIME
                break
            trial = points + size * velocity
            if size < SMALLEST_STEP or not np.abs(trial).max() < ENDLESS:
                status = DIVERGED
                break
            loss, found = self(trial)
            if _rms(found) <= WORSE * speed:
                points, velocity, speed, size = trial, found, _rms(found), FASTER * size
                losses.append(loss)
            else:
                size *= SLOWER
            self.work.update(number, f"velocity {speed:.2g}")
        return self._found(points, np.array(losses), speed, status)

    def _found(self, points: np.ndarray, losses: np.ndarray, speed: float, status: str) -> Found:
        far = np.abs(points).max(axis=0) > np.sqrt(ENDLESS)
        note = "" if status != DIVERGED else no_scale(self.work, far) if far.any() else STOPPED
        arrival = Arrival(
            "velocity of the particles", speed, AT_REST, "root mean square, in scales of a first look at the target"
        )
        return Found(Points(self.placed(points)), losses, status, arrival, note, {"num_particles": len(points)})


def _rms(velocity: np.ndarray) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.sqrt(np.square(velocity).mean()))


def _of_guide(options: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"num_particles": options["num_particles"]}


SVGD = Method(
    name="svgd",
    summary="Particles moved by Stein variational gradient descent: any shape, but their spread shrinks where latents "
    "are many and the posterior is no normal; how many go to each of several modes is left to where they begin, which "
    "is by the ELBO of a quick look at each.",
    cite="Liu and Wang (2016), Stein variational gradient descent: a general purpose Bayesian inference algorithm",
    families=("particles",),
    run=run,
    options={"num_particles": f"default {NUM_PARTICLES}: number of particles, at least {LEAST_PARTICLES}"},
    defaults={"num_particles": NUM_PARTICLES},
    guide_options=_of_guide,
)
