"""What a method beside SVI is: from a target and a start to an approximation, with its evidence."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ppl_models.engine import Target
from ppl_models.inference.course import CONVERGED
from ppl_models.inference.methods.approximations import Approximation
from ppl_models.inference.preconditioning.pilot import Normal
from ppl_models.progress import Update


@dataclass(frozen=True)
class Work:
    """All that a method gets. It is run in the program's world, with whole data.

    Attributes:
        target: the log density.
        start: an unconstrained point to begin at, finite there where any point could be found, shape (dim,).
        begin: a normal to begin at, from another fit; None where there is none.
        prior_draw: gives a further start, shape (dim,); a draw of the prior where the density is finite.
        seed: of everything random.
        max_steps: most iterations; None leaves it to the method.
        deadline: `time.perf_counter()` at which it should end with what it has.
        options: the method's options, checked.
        update: shows progress: (iterations, text).
    """

    target: Target
    start: np.ndarray
    begin: Normal | None
    prior_draw: Callable[[], np.ndarray]
    seed: int
    max_steps: int | None
    deadline: float
    options: Mapping[str, Any]
    update: Update


@dataclass(frozen=True)
class Arrival:
    """Why a method says that it has arrived.

    Attributes:
        name: what was measured.
        value: the figure.
        limit: what it must not exceed.
        detail: the evidence in a sentence.
    """

    name: str
    value: float
    limit: float
    detail: str = ""

    @property
    def arrived(self) -> bool:
        """Whether the value is within its limit."""
        return self.value <= self.limit


@dataclass(frozen=True)
class Found:
    """What a method found.

    Attributes:
        approximation: the distribution, for the guide to take.
        losses: the objective in nats (lower is better) by iteration, shape (iteration,).
        status: "converged", "max_steps", "out_of_time" or "diverged".
        arrival: why.
        note: what was out of the ordinary; empty otherwise.
        evidence: further figures, as JSON has them: numbers, text, lists and mappings by name.
    """

    approximation: Approximation
    losses: np.ndarray
    status: str = CONVERGED
    arrival: Arrival | None = None
    note: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Method:
    """A way to fit automatic families without SVI.

    Attributes:
        name: its name.
        summary: what it does, in one sentence.
        cite: the paper.
        families: names of the families that it can fit; the first is taken where none is named.
        run: does it.
        options: what each option means, with its default.
        defaults: value of each option where none is given.
        guide_options: options that the family must be built with, from the method's own; None for none.
    """

    name: str
    summary: str
    cite: str
    families: tuple[str, ...]
    run: Callable[[Work], Found]
    options: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    guide_options: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None
