"""What a method of correction is given and what it returns."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import xarray as xr

from ppl_models.checks import all_passed
from ppl_models.diagnostics import Check, Moments
from ppl_models.inference import Fit
from ppl_models.seeds import child_seed
from ppl_models.workflow.correction.proposals import Proposals, propose

PILOT = 10_000
"""Draws of the fit that its weights are first judged by."""


@dataclass
class Request:
    """A correction that was asked for.

    Attributes:
        fit: whose draws are corrected.
        num_draws: how many are wanted.
        seed: of everything random.
        deadline: `time.perf_counter()` at which to make no more of them.
        backend: what computes the log density of chains.
        update: shows progress: draws made, and a word.
        pace: seconds that one proposal took when last some were drawn.
        starts: flat unconstrained points for chains to begin at, where other starts have been elsewhere; None else.
    """

    fit: Fit
    num_draws: int
    seed: int
    deadline: float
    backend: str
    update: Callable[[int, str], None] = field(repr=False)
    pace: float = 0.0
    starts: np.ndarray | None = field(default=None, repr=False)
    _pilot: Proposals | None = field(default=None, repr=False)

    @property
    def pilot(self) -> Proposals:
        """Draws of the fit that all methods share."""
        if self._pilot is None:
            self._pilot = self.propose(PILOT, "pilot")
        return self._pilot

    @property
    def seconds_left(self) -> float:
        """Until the deadline."""
        return self.deadline - time.perf_counter()

    def propose(self, num_draws: int, stage: str) -> Proposals:
        """Draws of the fit under a seed of their own."""
        began = time.perf_counter()
        found = propose(self.fit, num_draws, child_seed(self.seed, stage))
        self.pace = (time.perf_counter() - began) / num_draws
        self.update(num_draws, stage)
        return found

    def affords(self, num_draws: int) -> bool:
        """Whether so many more proposals can be drawn before the deadline, by the pace of the last ones."""
        return num_draws * self.pace <= self.seconds_left


@dataclass(frozen=True)
class Outcome:
    """Corrected draws, judged.

    Attributes:
        tree: the draws.
        moments: theirs, with Monte Carlo errors.
        raw: those of the fit's own draws, for the same parameters.
        labels: of the parameters.
        checks: what was measured.
        num_proposals: draws of the fit behind them.
        log_weights: of the proposals (psis), or of the draws (importance); their exponentials sum to one. None else.
        attrs: what else is worth keeping.
    """

    tree: xr.DataTree
    moments: Moments
    raw: Moments
    labels: tuple[str, ...]
    checks: tuple[Check, ...]
    num_proposals: int = 0
    log_weights: np.ndarray | None = None
    attrs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether every check did."""
        return all_passed(self.checks)


class Method(Protocol):
    """One way of correcting: one file, listed in `correcting.py`."""

    def __call__(self, request: Request) -> Outcome:
        """Correct the fit's draws."""
        ...
