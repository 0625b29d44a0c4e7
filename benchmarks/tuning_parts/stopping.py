"""(d) Fits that stopped by themselves beside runs ten times as long."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ppl_models as ppl
from benchmarks import posteriordb
from benchmarks.tuning_parts.default_fits import described
from benchmarks.tuning_parts.gaussian import mean_and_error
from benchmarks.tuning_parts.rules import LONGER_NATS, Row, near_longer
from ppl_models import Fit
from ppl_models.inference.runs import Plan

LONGER = 10
NUM_DRAWS, MOST_DRAWS = 10_000, 40_000
LARGEST_ERROR = 0.02
NO_TOLERANCE = 1e-12
AUTOMATIC = ("normal", "full_rank")


@dataclass(frozen=True)
class Case:
    """A model with its data and a guide.

    Attributes:
        problem: its name.
        guide: the guide's name.
        model: called with `data`.
        data: its arguments.
        given: what `ppl.fit` takes as guide.
    """

    problem: str
    guide: str
    model: Callable[..., Any]
    data: Mapping[str, Any]
    given: Any


def cases(names: Callable[[tuple[str, ...]], list[str]], folder: Path) -> Iterator[Case]:
    """Catalogue problems with three guides, those of posteriordb with two."""
    for name in names(ppl.names()):
        problem = ppl.load(name)
        for guide in (*AUTOMATIC, "handwritten"):
            yield Case(name, guide, problem.model, problem.data, problem.guides.get(guide, guide))
    for name in names(posteriordb.names()):
        found = posteriordb.load(name, folder)
        for guide in AUTOMATIC:
            yield Case(name, guide, found.model, found.data, guide)


def against_longer(case: Case, seed: int) -> Row:
    """Row of part (d)."""
    fit = ppl.fit(case.model, case.data, guide=case.given, seed=seed)
    with without_end():
        longer = ppl.fit(
            case.model,
            case.data,
            guide=case.given,
            seed=seed,
            max_steps=LONGER * max(fit.steps, 1),
            max_seconds=1e6,
        )
    deficit, error = paired_difference(longer, fit)
    elbo, _ = fit.elbo(NUM_DRAWS, seed=1)
    return {
        "deficit": deficit,
        "deficit_mcse": error,
        "elbo": elbo,
        "passed": near_longer(deficit, elbo),
        "passed_nats": deficit <= LONGER_NATS,
        **described(fit),
        "seconds": fit.seconds,
        "longer_steps": longer.steps,
        "longer_status": longer.status,
        "longer_seconds": longer.seconds,
    }


@contextmanager
def without_end() -> Iterator[None]:
    """Fits go on to their last step: nothing is good enough."""
    kept: Any = Plan.tolerance
    Plan.tolerance = property(lambda plan: NO_TOLERANCE)
    try:
        yield
    finally:
        Plan.tolerance = kept


def paired_difference(better: Fit, worse: Fit) -> tuple[float, float]:
    """ELBO of one fit less that of another of the same family, on the same noise, with its standard error."""
    count = NUM_DRAWS
    while True:
        each = better.log_ratio(count, seed=1) - worse.log_ratio(count, seed=1)
        mean, error = mean_and_error(each)
        if not error > LARGEST_ERROR or count >= MOST_DRAWS:
            return mean, error
        count *= 2
