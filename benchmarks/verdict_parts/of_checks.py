"""What each check alone can tell: how often it fails good and bad cases, and how well its value sorts them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from benchmarks.verdict_parts.store import Row
from benchmarks.verdict_parts.truth import BAD, GOOD

VALUE, LIMIT, PASSED = range(3)
SPARED = 0.9
"""Share of good cases that a limit shall leave alone."""


@dataclass(frozen=True)
class CheckLine:
    """One check over many cases.

    Attributes:
        name: of the check.
        measured: share of all cases in which it could be measured.
        fails_bad: share of bad cases that it fails.
        fails_good: share of good cases that it fails.
        sorts: probability that its value is larger for a bad case than for a good one, of those measured; NaN where
            there are none of a kind.
        would_spare: the limit at which 90 % of the good cases pass.
        would_catch: share of the bad cases beyond that limit.
        seconds: median.
    """

    name: str
    measured: float
    fails_bad: float
    fails_good: float
    sorts: float
    would_spare: float
    would_catch: float
    seconds: float


def lines(rows: Sequence[Row]) -> list[CheckLine]:
    """One line for each check, in the order in which the first case has them."""
    names = list(dict.fromkeys(name for row in rows for name in row["checks"]))
    return [_line(name, [row for row in rows if name in row["checks"]]) for name in names]


def _line(name: str, rows: Sequence[Row]) -> CheckLine:
    good, bad = (_values(name, [row for row in rows if row["class"] == of]) for of in (GOOD, BAD))
    limit = float(np.quantile(good, SPARED)) if len(good) else math.nan
    seconds = [row["seconds"][name] for row in rows if name in row.get("seconds", {})]
    return CheckLine(
        name=name,
        measured=_share([row["checks"][name][VALUE] is not None for row in rows]),
        fails_bad=_share([row["checks"][name][PASSED] is False for row in rows if row["class"] == BAD]),
        fails_good=_share([row["checks"][name][PASSED] is False for row in rows if row["class"] == GOOD]),
        sorts=sorting(good, bad),
        would_spare=limit,
        would_catch=_share(list(bad > limit)) if len(good) else math.nan,
        seconds=float(np.median(seconds)) if seconds else math.nan,
    )


def _values(name: str, rows: Sequence[Row]) -> np.ndarray:
    return np.array([row["checks"][name][VALUE] for row in rows if row["checks"][name][VALUE] is not None], dtype=float)


def _share(flags: Sequence[bool]) -> float:
    return sum(map(bool, flags)) / len(flags) if len(flags) else math.nan


def sorting(good: np.ndarray, bad: np.ndarray) -> float:
    """The area under the receiver's curve: Mann and Whitney's statistic as a share, ties counted half."""
    if not len(good) or not len(bad):
        return math.nan
    ranks = rankdata(np.concatenate([good, bad]))
    return float((ranks[len(good) :].sum() - 0.5 * len(bad) * (len(bad) + 1)) / (len(good) * len(bad)))
