"""Normalised densities fitted to posterior draws: the other ends of bridges that have no fit to start from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ppl_models.inference.methods.approximations import Normal
from ppl_models.inference.methods.normals import log_density, moved
from ppl_models.inference.proposal import Proposal
from ppl_models.inference.t_mixture import TMixture


@dataclass(frozen=True)
class FittedNormal:
    """A normal over the flat unconstrained vector.

    A bridge to it is the same as one between a standard normal and the posterior moved and scaled to mean zero and unit
    covariance, the second warp of Meng and Schilling (2002), Warp bridge sampling, JCGS 11.

    Attributes:
        normal: mean and root of the covariance.
    """

    normal: Normal

    @classmethod
    def around(cls, points: np.ndarray) -> "FittedNormal":
        """With the mean and the covariance of points (point, dim); diagonal where there are few of them."""
        return cls(TMixture.around(points).normals[0])

    def draw(self, num_draws: int, seed: int) -> np.ndarray:
        """Draws, shape (draw, dim)."""
        return moved(self.normal, np.random.default_rng(seed).standard_normal((num_draws, len(self.normal.mean))))

    def log_prob(self, points: np.ndarray) -> np.ndarray:
        """Log density in nats at points (point, dim), shape (point,)."""
        return log_density(self.normal, points)


WARPS: Mapping[str, Callable[[np.ndarray], Proposal]] = {"normal": FittedNormal.around, "t": TMixture.around}
"""Fits of a density to points (point, dim), by name; "t" has four degrees of freedom, for posteriors with tails."""
