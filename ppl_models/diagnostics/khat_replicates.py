"""k-hat in independent replicates: its value, and how far it is known."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ppl_models.diagnostics.khat import MIN_DRAWS
from ppl_models.diagnostics.pareto_columns import khat_columns
from ppl_models.errors import DataError


@dataclass(frozen=True)
class KhatReplicates:
    """k-hats of independent replicates.

    Attributes:
        khat: of all draws together.
        khats: of each replicate, shape (replicate,).
    """

    khat: float
    khats: NDArray[np.float64]

    @property
    def spread(self) -> float:
        """Standard deviation over replicates; NaN for one, or where a k-hat is not finite."""
        finite = len(self.khats) > 1 and bool(np.isfinite(self.khats).all())
        return float(self.khats.std(ddof=1)) if finite else math.nan

    @property
    def error(self) -> float:
        """Standard error of the mean over replicates."""
        return self.spread / math.sqrt(len(self.khats))


def khat_replicates(log_ratio: ArrayLike) -> KhatReplicates:
    """k-hat of each replicate and of all draws together.

    Args:
        log_ratio: log p - log q in nats, shape (replicate, draw); at least 100 draws in each.

    Returns:
        Values and spread.

    Raises:
        DataError: wrong shape, fewer than 100 draws, or NaN, +inf or nothing but -inf in a replicate.
    """
    ratios = np.asarray(log_ratio, dtype=float)
    if ratios.ndim != 2 or not len(ratios):
        raise DataError(f"log_ratio: shape {ratios.shape}, needs (replicate, draw), with one replicate at least.")
    if ratios.shape[1] < MIN_DRAWS:
        raise DataError(f"log_ratio: {ratios.shape[1]} draws a replicate, needs at least {MIN_DRAWS}. Draw more.")
    top = ratios.max(axis=1)
    if not np.isfinite(top).all():
        raise DataError(
            f"log_ratio: replicate {np.isfinite(top).argmin()} holds NaN or +inf, or nothing but -inf, needs "
            "log p - log q finite or -inf. Evaluate both densities at these draws in float64."
        )
    return KhatReplicates(float(khat_columns(ratios.reshape(-1, 1))[0]), khat_columns(ratios.T))
