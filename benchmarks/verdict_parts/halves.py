"""Two halves of the problems: limits are set on one, and what they give is reported on the other."""

import hashlib
from collections.abc import Iterable

from benchmarks.verdict_parts.problems import relatives

SETTING, REPORTING = "setting", "reporting"
HALVES = (SETTING, REPORTING)
SALT = "halves"


def half_of(problem: str) -> str:
    """The half of a problem, by a hash of its name's cluster: relatives are in the same half."""
    digest = hashlib.sha256(f"{SALT} {relatives(problem)}".encode()).digest()
    return HALVES[digest[0] % 2]


def described(problems: Iterable[str]) -> dict[str, list[str]]:
    """The problems of each half."""
    found: dict[str, list[str]] = {half: [] for half in HALVES}
    for problem in sorted(set(problems)):
        found[half_of(problem)].append(problem)
    return found
