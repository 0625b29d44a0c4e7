"""A distribution over the flat unconstrained vector that importance weights can be computed for."""

from typing import Protocol

import numpy as np

from ppl_models.inference.fit_result import Fit
from ppl_models.inference.flat_guide import FlatGuide
from ppl_models.inference.sitewise_guide import SitewiseGuide


class Proposal(Protocol):
    """Draws, and their density at any points."""

    def draw(self, num_draws: int, seed: int) -> np.ndarray:
        """Draws, shape (draw, dim)."""
        ...

    def log_prob(self, points: np.ndarray) -> np.ndarray:
        """Log density in nats at points (point, dim), shape (point,)."""
        ...


def proposal_of(fit: Fit) -> Proposal | None:
    """A fit's guide as such a distribution; None where its density is known at its own draws alone."""
    return FlatGuide.of(fit) or SitewiseGuide.of(fit)
