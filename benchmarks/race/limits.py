"""The figures to reach: each compares this library with a peer, or with a number of its own."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from race.parts.svi_steps import SMALL
from race.processes import Row

OURS = ("native", "inductor", "ours", "ours_default")
"""Labels of this library, the first one that a race has is judged."""


@dataclass(frozen=True)
class Limit:
    """At most so much of what a peer needs.

    Attributes:
        figure: what is compared.
        against: beginning of the peer's label, the fastest peer that has it is taken; empty for an absolute limit.
        at_most: ratio to that peer, or the figure itself.
        applies: whether a piece of work is held to it.
    """

    figure: str
    against: str
    at_most: float
    applies: Callable[[dict[str, Any]], bool] = lambda work: True


LIMITS: dict[str, tuple[Limit, ...]] = {
    "a": (
        Limit("step", "pyro", 1 / 100, lambda work: work["model"] in SMALL),
        Limit("step", "numpyro", 1.0),
    ),
    "b": (Limit("step", "torch", 1.05),),
    "c": (
        Limit("seconds", "pyro", 1 / 150, lambda work: work["model"] == "eight_schools"),
        Limit("seconds", "numpyro", 1 / 15, lambda work: work["model"] == "eight_schools"),
        Limit("seconds", "pymc", 2.0, lambda work: work["model"] == "eight_schools"),
        Limit("seconds", "pymc", 1.5, lambda work: work["model"] == "logistic"),
    ),
    "d": (
        Limit("call", "", 10.0, lambda work: work["cache"] == "cold"),
        Limit("call", "", 1.5, lambda work: work["cache"] == "warm"),
    ),
    "f": (Limit("peak", "pyro", 1.2),),
}


def judge(part: str, rows: list[Row]) -> list[dict[str, Any]]:
    """Hold the rows of a part to its limits.

    Returns:
        One entry per piece of work and limit: work, figure, ours (label), against (label), found, limit, and met (None
        where one side was not measured).
    """
    works = []
    for row in rows:
        if row["work"] not in works and row["peer"] in OURS:
            works.append(row["work"])
    return [
        {"work": work, **_judged(limit, [row for row in rows if _comparable(row["work"], work)])}
        for limit in LIMITS.get(part, ())
        for work in works
        if limit.applies(work)
    ]


def _comparable(one: dict[str, Any], other: dict[str, Any]) -> bool:
    # What a peer does without a cache stands beside both our cold and our warm runs.
    return all(one[key] == other[key] or "none" in (one[key], other[key]) for key in one)


def _judged(limit: Limit, rows: list[Row]) -> dict[str, Any]:
    ours = min((row for row in rows if row["peer"] in OURS), key=lambda row: OURS.index(row["peer"]))
    entry = {"figure": limit.figure, "ours": ours["peer"], "against": limit.against, "limit": limit.at_most}
    found = median(ours, limit.figure)
    if limit.against:
        peers = [row for row in rows if row["peer"].split("_")[0] == limit.against and median(row, limit.figure)]
        if not peers:
            return {**entry, "found": None, "met": None}
        fastest = min(peers, key=lambda row: median(row, limit.figure) or 0.0)
        entry["against"] = fastest["peer"]
        found = found and found / median(fastest, limit.figure)
    return {**entry, "found": found, "met": None if found is None else found <= limit.at_most}


def median(row: Row, figure: str) -> float | None:
    """Median of a figure over the rounds, None where it was not measured."""
    return statistics.median(row["values"][figure]) if row["values"].get(figure) else None
