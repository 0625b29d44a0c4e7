"""The smallest effective sample size of a set of draws."""

from collections.abc import Mapping

import numpy as np
from arviz_stats.base import array_stats


def smallest_ess(draws: Mapping[str, np.ndarray]) -> float:
    """Smallest bulk ESS over all scalars of all latents.

    Args:
        draws: by name, shape (chain, draw, *event).
    """
    return min(
        float(np.min(array_stats.ess(values, chain_axis=0, draw_axis=1, method="bulk"))) for values in draws.values()
    )
