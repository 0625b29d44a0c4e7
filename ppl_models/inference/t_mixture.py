"""A mixture of multivariate t's over the flat unconstrained vector: a proposal that reaches into tails."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import gammaln, logsumexp

from ppl_models.inference.methods.approximations import Mixture, Normal
from ppl_models.inference.methods.normals import log_scale, moved, squared_distance

DEGREES_OF_FREEDOM = 4.0
"""Few enough that weights of most posteriors are bounded, many enough that the draws have a variance."""


@dataclass(frozen=True)
class TMixture:
    """Multivariate t's of the locations and scales of normals.

    Importance weights need a proposal with heavier tails than the posterior's (Geweke 1989, Bayesian inference in
    econometric models using Monte Carlo integration).

    Attributes:
        weights: shape (component,), sum to one.
        normals: one for each weight.
        df: degrees of freedom of all.
    """

    weights: np.ndarray
    normals: tuple[Normal, ...]
    df: float = DEGREES_OF_FREEDOM

    @classmethod
    def of(cls, mixture: Mixture) -> "TMixture":
        """The t's in the place of a mixture's normals, but for those without weight."""
        kept = [index for index, weight in enumerate(mixture.weights) if weight > 0.0]
        weights = mixture.weights[kept]
        return cls(weights / weights.sum(), tuple(mixture.normals[index] for index in kept))

    @classmethod
    def around(cls, points: np.ndarray) -> "TMixture":
        """One t with the mean and the covariance of points (point, dim); diagonal where there are few of them."""
        mean, scale = points.mean(axis=0), points.std(axis=0)
        root = scale
        if len(points) > 2 * points.shape[1]:
            unit = (points - mean) / np.where(scale > 0.0, scale, 1.0)
            correlation = unit.T @ unit / len(points) + 1e-9 * np.eye(points.shape[1])
            root = scale[:, None] * np.linalg.cholesky(correlation)
        return cls(np.ones(1), (Normal(mean, root, -np.inf, 0),))

    def draw(self, num_draws: int, seed: int) -> np.ndarray:
        """Draws, shape (draw, dim), in random order."""
        rng = np.random.default_rng(seed)
        counts = rng.multinomial(num_draws, self.weights)
        parts = []
        for normal, count in zip(self.normals, counts, strict=True):
            noise = rng.standard_normal((count, len(normal.mean)))
            stretched = noise * np.sqrt(self.df / rng.chisquare(self.df, size=(count, 1)))
            parts.append(moved(normal, stretched))
        return rng.permutation(np.concatenate(parts))

    def log_prob(self, points: np.ndarray) -> np.ndarray:
        """Log density in nats at points (point, dim), shape (point,)."""
        logs = [
            np.log(weight) + _log_density(points, normal, self.df)
            for weight, normal in zip(self.weights, self.normals, strict=True)
        ]
        found: Any = logsumexp(np.stack(logs), axis=0)
        return found


def _log_density(points: np.ndarray, normal: Normal, df: float) -> np.ndarray:
    dim = points.shape[1]
    constant = gammaln(0.5 * (df + dim)) - gammaln(0.5 * df) - 0.5 * dim * np.log(df * np.pi) - log_scale(normal.root)
    return constant - 0.5 * (df + dim) * np.log1p(squared_distance(normal, points) / df)
