"""What the rows come to: shares, medians, and seconds beside the peers' NUTS."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.tuning_parts.rules import Row

INF = math.inf


@dataclass(frozen=True)
class Line:
    """One method over its problems.

    Attributes:
        label: its name.
        runs: how many rows.
        single: share of rows on problems of a single mode that are accurate.
        every: share of all rows that are.
        claims: how many rows claim a pass; None where the method makes no claims.
        claims_met: share of the claims that are accurate.
        seconds: median of the first calls, with the draws.
        warm: median of second calls, with the draws.
        evaluations: median of log densities evaluated; None where nobody counts.
        mean_error, log_sd_ratio, wasserstein: the worst of all rows; inf where one is not finite.
    """

    label: str
    runs: int
    single: float
    every: float
    claims: int | None
    claims_met: float
    seconds: float
    warm: float
    evaluations: float | None
    mean_error: float
    log_sd_ratio: float
    wasserstein: float


def line(label: str, rows: Sequence[Row]) -> Line:
    """The line of the rows of one method."""
    claims = [row for row in rows if row.get("claims") is not None]
    claimed = [row for row in claims if row["claims"]]
    counts = [row["evaluations"] for row in rows if row.get("evaluations") is not None]
    return Line(
        label=label,
        runs=len(rows),
        single=share([row for row in rows if not row["multimodal"]]),
        every=share(rows),
        claims=len(claimed) if claims else None,
        claims_met=share(claimed),
        seconds=float(np.median([total(row, "seconds") for row in rows])),
        warm=float(np.median([total(row, "seconds_warm") for row in rows])),
        evaluations=float(np.median(counts)) if counts else None,
        mean_error=worst(rows, "mean_error"),
        log_sd_ratio=worst(rows, "log_sd_ratio"),
        wasserstein=worst(rows, "wasserstein"),
    )


def share(rows: Sequence[Row]) -> float:
    """Share of rows that are accurate; NaN where there are none."""
    return sum(bool(row["accurate"]) for row in rows) / len(rows) if rows else math.nan


def total(row: Row | None, kind: str) -> float:
    """Seconds of a run with its draws; inf where it failed, or there is none."""
    if row is None or row.get(kind) is None:
        return INF
    return row[kind] + (row.get("sample_seconds") or 0.0)


def worst(rows: Sequence[Row], name: str) -> float:
    """The largest; inf where one is not known."""
    return max((INF if row.get(name) is None else row[name] for row in rows), default=math.nan)


def time_to_accuracy(row: Row, kind: str) -> float:
    """Seconds to an accurate result: inf for one that is not."""
    return total(row, kind) if row["accurate"] else INF


def ratio(ours: float, theirs: float) -> float | None:
    """Our seconds over theirs: inf where only they are accurate, None where they are not."""
    return ours / theirs if math.isfinite(theirs) else None


def middle(values: Sequence[float | None]) -> float:
    """The median of what is known; NaN where nothing is."""
    known = [value for value in values if value is not None]
    # Not np.median, which makes NaN of the mean of two infinities.
    ordered = sorted(known)
    if not ordered:
        return math.nan
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return high if math.isinf(high) else (low + high) / 2.0


def by_problem(rows: Sequence[Row], label: str, pick: Callable[[Sequence[Row]], Row]) -> dict[str, Row]:
    """One row of a method for each problem."""
    problems = dict.fromkeys(row["problem"] for row in rows if row["guide"] == label)
    return {
        problem: pick([row for row in rows if row["guide"] == label and row["problem"] == problem])
        for problem in problems
    }


def curve(rows: Sequence[Row]) -> tuple[np.ndarray, np.ndarray]:
    """Share of a method's runs that were accurate within so many seconds: the times in order, and the shares."""
    times = np.sort([time for row in rows if math.isfinite(time := time_to_accuracy(row, "seconds"))])
    return times, np.arange(1, len(times) + 1) / len(rows)
