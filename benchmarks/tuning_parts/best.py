"""The best ELBO that a normal guide can have, found without the library's own optimisation.

The ELBO is averaged over a fixed set of antithetic, whitened noise and maximised by L-BFGS, from the moments of the
reference draws (Giordano, Ingram and Broderick 2024, Black box variational inference with a deterministic objective).
Two sets of noise are tried, and compared on noise that neither has seen. Noise of that kind is exact where the target
is normal; elsewhere the optimum of one set lies about (parameters / points) nats below that of all noise.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from benchmarks.tuning_parts.gaussian import DIAGONAL, Gaussian, difference, whitened
from benchmarks.tuning_parts.target import Target

MOST_POINTS, FEWEST_POINTS = 16_384, 1_024
SECONDS_AN_EVALUATION = 1.5
MOST_ITERATIONS = 300
SEEDS = (11, 12)
OUTSIDE = 1e12
"""Loss where a point has no density: the line search turns back."""


@dataclass(frozen=True)
class Found:
    """The best guide of a family.

    Attributes:
        gaussian: the guide.
        spread: by how many nats the two sets of noise differ, on fresh noise.
        num_points: points of one set.
        num_evaluations: gradients of one set, both runs together.
    """

    gaussian: Gaussian
    spread: float
    num_points: int
    num_evaluations: int


def start_of(draws: np.ndarray, family: str) -> Gaussian:
    """A guide with the moments of some draws, shape (draw, dim); mean-field ones have the conditional scales."""
    covariance = np.atleast_2d(np.cov(draws, rowvar=False))
    if family == DIAGONAL:
        return Gaussian(draws.mean(axis=0), 1.0 / np.sqrt(np.diag(np.linalg.inv(covariance))))
    return Gaussian(draws.mean(axis=0), np.linalg.cholesky(covariance))


def best_of(target: Target, draws: np.ndarray, family: str) -> Found:
    """The best guide, begun at the moments of reference draws."""
    wanted = SECONDS_AN_EVALUATION / target.seconds_per_point()
    count = int(np.clip(wanted, FEWEST_POINTS, MOST_POINTS))
    begin = start_of(draws, family)
    axes = np.linalg.cholesky(np.atleast_2d(np.cov(draws, rowvar=False)))
    # A quarter of the points gets most of the way.
    few = whitened(max(FEWEST_POINTS, count // 4) // 2, target.num_dims, SEEDS[0] + 100)
    begin, evaluations = maximise(target, begin, axes, few)
    ends = []
    for seed in SEEDS:
        end, number = maximise(target, begin, axes, whitened(count // 2, target.num_dims, seed))
        ends.append(end)
        evaluations += number
    gain, _ = difference(target.density, ends[0], ends[1])
    return Found(ends[0] if gain >= 0.0 else ends[1], abs(gain), count, evaluations)


def maximise(target: Target, begin: Gaussian, axes: np.ndarray, noise: np.ndarray) -> tuple[Gaussian, int]:
    """The guide with the largest ELBO on given noise, and the number of evaluations that it took.

    Args:
        target: what is approximated.
        begin: where to begin; its family stays.
        axes: the mean moves in units of these columns, shape (dim, dim).
        noise: shape (point, dim).
    """
    dim, diagonal = target.num_dims, begin.root.ndim == 1
    lower = np.tril_indices(dim)
    on_diagonal = lower[0] == lower[1]

    def guide(flat: np.ndarray) -> Gaussian:
        mean = begin.mean + axes @ flat[:dim]
        if diagonal:
            return Gaussian(mean, begin.root * np.exp(flat[dim:]))
        return Gaussian(mean, begin.root @ triangle(flat[dim:]))

    def triangle(part: np.ndarray) -> np.ndarray:
        square = np.zeros((dim, dim))
        square[lower] = np.where(on_diagonal, np.exp(part), part)
        return square

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        at = guide(flat)
        values, slopes = target.gradient(at.points(noise))
        if not (np.isfinite(values).all() and np.isfinite(slopes).all()):
            return OUTSIDE, np.zeros_like(flat)
        of_mean = axes.T @ slopes.mean(axis=0)
        if diagonal:
            of_root = (slopes * noise).mean(axis=0) * at.root + 1.0
        else:
            square = (slopes @ begin.root).T @ noise / len(noise)
            of_root = square[lower] * np.where(on_diagonal, np.exp(flat[dim:]), 1.0) + on_diagonal
        return -float(values.mean()) - at.entropy, -np.concatenate([of_mean, of_root])

    size = dim + (dim if diagonal else len(lower[0]))
    found = minimize(
        loss,
        np.zeros(size),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": MOST_ITERATIONS, "maxcor": 30, "ftol": 1e-13, "gtol": 1e-5},
    )
    return guide(found.x), int(found.nfev)
