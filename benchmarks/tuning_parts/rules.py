"""What passes, in numbers, and how shares of rows are counted."""

from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]

BEST_NATS, BEST_SHARE = 0.05, 1e-4
"""A default fit may end so far below its family's best: nats, or a share of the ELBO."""
LONGER_NATS, LONGER_SHARE = 0.1, 1e-3
"""A fit that stopped may lie so far below a run ten times as long."""
MEAN_ERROR, SD_ERROR = 0.1, 0.1
"""Largest distance of a mean in reference sds, and of a ratio of sds from one."""
TUNED_RATIO = 2.0
"""Most time that a default fit may take, over a run tuned by hand."""
SMALL_SECONDS = 3.0
TARGETS = {"a": 0.95, "b": 0.7, "c": 1.0, "d": 0.95}
"""Share of rows that shall pass."""


def near_best(deficit: float, best: float) -> bool:
    """Whether an ELBO is as good as its family's best."""
    return deficit <= max(BEST_NATS, BEST_SHARE * abs(best))


def near_longer(deficit: float, elbo: float) -> bool:
    """Whether an ELBO is as good as that of a run ten times as long."""
    return deficit <= max(LONGER_NATS, LONGER_SHARE * abs(elbo))


def near_reference(mean_error: float, sd_error: float) -> bool:
    """Whether draws have the reference's moments."""
    return mean_error <= MEAN_ERROR and sd_error <= SD_ERROR


def false_end(status: str, deficit: float) -> bool:
    """Whether a fit said that it had converged, far from the optimum."""
    return status == "converged" and not deficit <= LONGER_NATS


def share(rows: Sequence[Row], key: str = "passed") -> float:
    """Share of the rows that pass; NaN where there are none."""
    return sum(bool(row[key]) for row in rows) / len(rows) if rows else float("nan")
