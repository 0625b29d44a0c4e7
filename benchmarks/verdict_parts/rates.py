"""How often verdicts are wrong, with intervals: exact binomial ones, and ones that know that problems are clusters."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import beta

from benchmarks.verdict_parts.plants import DROPPED
from benchmarks.verdict_parts.problems import relatives
from benchmarks.verdict_parts.store import Row
from benchmarks.verdict_parts.truth import BAD, CLASSES, GOOD

ALONE, BESIDE = "verdict", "baseline_verdict"
"""Keys of the verdict without a baseline, and of that with one."""
SIDES = {ALONE: "without a baseline", BESIDE: "with a baseline"}
VERDICTS = ("trust", "correct", "reject")
LEVEL = 0.95
NUM_RESAMPLES = 2_000

Predicate = Callable[[Row], bool]


@dataclass(frozen=True)
class Rate:
    """A share with its intervals of 95 %.

    Attributes:
        hits: cases that it counts.
        total: cases among which it counts.
        low: end of Clopper and Pearson's interval, as if cases were independent.
        high: its other end.
        cluster_low: end of the percentile interval of a bootstrap over clusters of related problems; where no case or
            every case is a hit, and the bootstrap would say that it is certain, the exact interval as if each cluster
            were one case. NaN where there are fewer than two clusters.
        cluster_high: its other end.
    """

    hits: int
    total: int
    low: float
    high: float
    cluster_low: float
    cluster_high: float

    @property
    def share(self) -> float:
        """The share; NaN of none."""
        return self.hits / self.total if self.total else math.nan


def clopper_pearson(hits: int, total: int) -> tuple[float, float]:
    """The exact interval of 95 % for a binomial share; (0, 1) of none.

    Clopper and Pearson (1934), The use of confidence or fiducial limits illustrated in the case of the binomial.
    """
    tail = 0.5 * (1.0 - LEVEL)
    low = float(beta.ppf(tail, hits, total - hits + 1)) if hits else 0.0
    high = float(beta.ppf(1.0 - tail, hits + 1, total - hits)) if hits < total else 1.0
    return low, high


def rate(rows: Sequence[Row], hit: Predicate, among: Predicate = lambda row: True) -> Rate:
    """The share of the rows among which a predicate holds."""
    counted = [row for row in rows if among(row)]
    hits = [hit(row) for row in counted]
    clusters = _by_cluster([relatives(row["problem"]) for row in counted], hits)
    return Rate(sum(hits), len(hits), *clopper_pearson(sum(hits), len(hits)), *_bootstrap(clusters))


def _by_cluster(names: Sequence[str], hits: Sequence[bool]) -> np.ndarray:
    """Hits and cases of each cluster, shape (cluster, 2)."""
    order = sorted(set(names))
    found = np.zeros((len(order), 2))
    for name, hit in zip(names, hits, strict=True):
        found[order.index(name)] += (hit, 1)
    return found


def _bootstrap(clusters: np.ndarray) -> tuple[float, float]:
    if len(clusters) < 2:
        return math.nan, math.nan
    if clusters[:, 0].sum() in (0, clusters[:, 1].sum()):
        return clopper_pearson(len(clusters) if clusters[:, 0].any() else 0, len(clusters))
    rng = np.random.default_rng(1)
    picked = rng.integers(len(clusters), size=(NUM_RESAMPLES, len(clusters)))
    sums = clusters[picked].sum(axis=1)
    low, high = np.quantile(sums[:, 0] / sums[:, 1], [0.5 * (1.0 - LEVEL), 0.5 * (1.0 + LEVEL)])
    return float(low), float(high)


def judged(rows: Sequence[Row]) -> list[Row]:
    """The rows of cases that were judged, and not merely failed."""
    return [row for row in rows if "failed" not in row]


def counted(rows: Sequence[Row]) -> list[Row]:
    """What rates are formed of: dropped correlations apart, as moments do not tell whether those are wrong."""
    return [row for row in judged(rows) if row["fault"] != DROPPED]


def confusion(rows: Sequence[Row], side: str) -> np.ndarray:
    """Cases by class (good, middling, bad) and verdict (trust, correct, reject), shape (3, 3)."""
    found = np.zeros((len(CLASSES), len(VERDICTS)), dtype=int)
    for row in rows:
        found[CLASSES.index(row["class"]), VERDICTS.index(row[side])] += 1
    return found


def false_rates(rows: Sequence[Row], side: str) -> dict[str, Rate]:
    """The rates that count: what is trusted and bad, among bad cases, among the trusted, and among all; and so on."""

    def trusted(row: Row) -> bool:
        return row[side] == "trust"

    def bad(row: Row) -> bool:
        return row["class"] == BAD

    return {
        "trusted among bad": rate(rows, trusted, bad),
        "bad among trusted": rate(rows, bad, trusted),
        "trusted and bad among all": rate(rows, lambda row: trusted(row) and bad(row)),
        "rejected among good": rate(rows, lambda row: row[side] == "reject", lambda row: row["class"] == GOOD),
        "trusted among good": rate(rows, trusted, lambda row: row["class"] == GOOD),
    }
