"""The list of what is judged: problem x guide x fault x seed, all of one problem and guide together."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.verdict_parts import closed_forms
from benchmarks.verdict_parts.families import FAMILIES, FAULTS, HANDWRITTEN, NONE, SCALES
from benchmarks.verdict_parts.plants import DROPPED, MISSED
from ppl_models.catalogue.registry import POSTERIORS

QUICK_PROBLEMS = ("eight_schools_noncentered", "lynx_ar2", "two_modes_1d_50", "student_t3_1d", "normal_5d")
QUICK_GUIDES = ("normal", "full_rank", "pathfinder")
QUICK_FAULTS = (NONE, "half_width", "shifted_one", DROPPED, MISSED, "scaled_four")


@dataclass(frozen=True)
class Case:
    """One row: a guide with a fault (or `none`) on a problem, with a seed."""

    problem: str
    guide: str
    fault: str
    seed: int

    @property
    def key(self) -> dict[str, Any]:
        """What the row is known by."""
        return asdict(self)


def cases(
    problems: Sequence[str], guides: Sequence[str], faults: Sequence[str], seeds: int
) -> Iterator[tuple[str, list[Case]]]:
    """Each problem with its cases."""
    for problem in problems:
        yield (
            problem,
            [
                Case(problem, guide, fault, seed)
                for guide in guides
                for seed in range(1, 1 + seeds)
                for fault in faults
                if possible(problem, guide, fault)
            ],
        )


def possible(problem: str, guide: str, fault: str) -> bool:
    """Whether there is such a case."""
    family, closed = FAMILIES[guide], problem in closed_forms.names()
    if family.problems and not problem.startswith(family.problems):
        return False
    if guide == HANDWRITTEN and problem not in POSTERIORS:
        return False
    if fault not in (NONE, *family.faults):
        return False
    if fault == MISSED:
        return problem.startswith("two_modes")
    if fault == DROPPED:
        return "_1d" not in problem
    return not (closed and fault in SCALES)


def every_guide() -> tuple[str, ...]:
    """The labels of all guides."""
    return tuple(FAMILIES)


def every_fault() -> tuple[str, ...]:
    """All faults, `none` first."""
    return FAULTS
