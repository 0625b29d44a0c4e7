"""Normal guides as mean and root in the program's own flat unconstrained space, and their ELBOs on common noise."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pyro.infer.autoguide import AutoMultivariateNormal, AutoNormal

from ppl_models import Fit
from ppl_models.program import Program, map_draws

Density = Callable[[np.ndarray], np.ndarray]
"""Takes points, shape (point, dim); returns log densities in nats, (point,)."""

NOISE_SEED = 20_260_101
FIRST_PAIRS, MOST_PAIRS = 2_048, 32_768
LARGEST_ERROR = 0.004
"""Standard error in nats at which a comparison needs no more noise."""
DIAGONAL, DENSE = "normal", "full_rank"


@dataclass(frozen=True)
class Gaussian:
    """A normal distribution over a program's flat unconstrained vector.

    Attributes:
        mean: shape (dim,).
        root: standard deviations, shape (dim,), or the Cholesky factor of the covariance, shape (dim, dim).
    """

    mean: np.ndarray
    root: np.ndarray

    @property
    def entropy(self) -> float:
        """In nats."""
        scales = self.root if self.root.ndim == 1 else np.diag(self.root)
        return float(np.log(np.abs(scales)).sum()) + 0.5 * len(self.mean) * (1.0 + np.log(2.0 * np.pi))

    @property
    def scale(self) -> np.ndarray:
        """Standard deviations, shape (dim,)."""
        return self.root if self.root.ndim == 1 else np.sqrt(np.square(self.root).sum(axis=1))

    def points(self, noise: np.ndarray) -> np.ndarray:
        """Draws from standard noise, both of shape (point, dim)."""
        return self.mean + (noise * self.root if self.root.ndim == 1 else noise @ self.root.T)

    def affine(self, factor: np.ndarray, shift: np.ndarray) -> "Gaussian":
        """The distribution of factor * x + shift, both of shape (dim,)."""
        root = self.root * (factor if self.root.ndim == 1 else factor[:, None])
        return Gaussian(factor * self.mean + shift, root)

    def as_json(self) -> dict[str, Any]:
        """Mean and root as nested lists."""
        return {"mean": self.mean.tolist(), "root": self.root.tolist()}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "Gaussian":
        """What `as_json` gave."""
        return cls(np.array(document["mean"]), np.array(document["root"]))


def of_fit(fit: Fit) -> Gaussian:
    """The mean and root of a fit of the family `normal` or `full_rank`, by name or as Pyro's guide."""
    parameters = {name: value.detach().numpy() for name, value in fit.parameters.items()}
    slices = fit.program.slices
    if isinstance(fit.guide, AutoNormal):
        found = {kind: np.zeros(fit.program.num_dims) for kind in ("locs", "scales")}
        for name, value in parameters.items():
            _, kind, site = name.split(".", 2)
            found[kind][slices[site][0]] = value.reshape(-1)
        return Gaussian(found["locs"], found["scales"])
    assert isinstance(fit.guide, AutoMultivariateNormal)
    values = {name.split(".")[-1]: value for name, value in parameters.items()}
    assert list(fit.guide._unconstrained_shapes) == list(slices)
    return Gaussian(values["loc"], values["scale"][:, None] * values["scale_tril"])


def constrained_moments(program: Program, gaussian: Gaussian, num_draws: int) -> dict[str, tuple[Any, Any]]:
    """Mean and sd of every latent and deterministic site under a normal guide, from draws of it."""
    noise = np.random.default_rng(NOISE_SEED).standard_normal((num_draws, len(gaussian.mean)))
    points = torch.as_tensor(gaussian.points(noise), dtype=program.dtype)
    with program.isolated(), torch.no_grad():
        draws = map_draws(program.constrain, num_draws, points, size_hint=program.size_hint)
    return {name: (value.mean(0).numpy(), value.std(0).numpy()) for name, value in draws.items()}


def antithetic(num_pairs: int, num_dims: int, seed: int) -> np.ndarray:
    """Standard normal noise and its mirror image, shape (2 * pair, dim)."""
    half = np.random.default_rng(seed).standard_normal((num_pairs, num_dims))
    return np.concatenate([half, -half])


def whitened(num_pairs: int, num_dims: int, seed: int) -> np.ndarray:
    """Antithetic noise whose sample covariance is the identity: exact for whatever is quadratic."""
    noise = antithetic(num_pairs, num_dims, seed)
    upper = np.linalg.cholesky(noise.T @ noise / len(noise)).T
    return np.linalg.solve(upper.T, noise.T).T


def elbo_per_pair(density: Density, gaussian: Gaussian, noise: np.ndarray) -> np.ndarray:
    """ELBO in nats at each antithetic pair of `noise`, with the exact entropy; shape (pair,)."""
    return density(gaussian.points(noise)).reshape(2, -1).mean(axis=0) + gaussian.entropy


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """Mean and its standard error."""
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


def difference(density: Density, better: Gaussian, worse: Gaussian, most: int = MOST_PAIRS) -> tuple[float, float]:
    """ELBO of one normal guide less that of another, on common noise, in nats, with its standard error.

    Noise is added until the error is small.
    """
    pairs, block, found = FIRST_PAIRS, 0, []
    while True:
        noise = antithetic(pairs, len(better.mean), NOISE_SEED + block)
        found.append(elbo_per_pair(density, better, noise) - elbo_per_pair(density, worse, noise))
        mean, error = mean_and_error(np.concatenate(found))
        total = sum(len(part) for part in found)
        if not error > LARGEST_ERROR or total >= most:
            return mean, error
        pairs, block = total, block + 1
