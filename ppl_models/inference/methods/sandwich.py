"""The Monte Carlo error of an optimum on fixed draws."""

from dataclasses import dataclass

import numpy as np

from ppl_models.inference.methods.fixed_draws import enough_pairs, fixed_draws
from ppl_models.inference.methods.mean_field import Curvature, MeanField
from ppl_models.inference.methods.trust_region import steihaug

NUM_GROUPS = 16
GROUP_PAIRS = 32
MAX_DENSE = 200
"""With more dims the Hessian is not formed for the sake of the error."""


@dataclass(frozen=True)
class DrawError:
    """Standard errors that the choice of draws leaves in a mean-field optimum.

    Attributes:
        mean: of the means, in standard deviations of the approximation, shape (dim,).
        log_scale: of the log standard deviations, shape (dim,).
    """

    mean: np.ndarray
    log_scale: np.ndarray

    @property
    def largest(self) -> float:
        """The largest of all; infinite where one is not finite."""
        both = np.concatenate([self.mean, self.log_scale])
        return float(both.max()) if np.isfinite(both).all() else np.inf


def draw_error(objective: MeanField, point: np.ndarray, curvature: Curvature, rng: np.random.Generator) -> DrawError:
    """The sandwich error of an optimum, H⁻¹ V H⁻¹ with V the variance of the mean score over sets of draws.

    The paper's V is that of independent draws. Antithetic and whitened draws hang together, so V is taken over
    independent groups of fresh draws, each made as the whole set is, and scaled by their number of pairs.

    Args:
        objective: with its draws.
        point: its optimum.
        curvature: the Hessian there.
        rng: gives the fresh draws.
    """
    dim = objective.num_dims
    pairs = enough_pairs(GROUP_PAIRS, dim)
    groups = np.array([fixed_draws(pairs, dim, rng) for _ in range(NUM_GROUPS)])
    with np.errstate(over="ignore", invalid="ignore"):
        scores = objective.mean_score(point, groups)
    if not np.isfinite(scores).all():
        return DrawError(np.full(dim, np.inf), np.full(dim, np.inf))
    share = np.sqrt(2.0 * pairs / len(objective.noise))
    moved = _solved(curvature, scores - scores.mean(axis=0))
    means, log_scales = objective.errors(moved, point)
    return DrawError(*(share * np.sqrt(np.square(part).sum(axis=0) / (NUM_GROUPS - 1)) for part in (means, log_scales)))


def _solved(curvature: Curvature, scores: np.ndarray) -> np.ndarray:
    """The inverse Hessian times each row of scores."""
    if scores.shape[1] > 2 * MAX_DENSE:
        return np.array([-steihaug(curvature, score, np.inf)[0] for score in scores])
    return np.linalg.lstsq(curvature.dense, scores.T, rcond=None)[0].T
