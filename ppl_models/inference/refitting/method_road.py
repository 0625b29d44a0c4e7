"""Refits by a method beside SVI, on a log density that is written down once."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ppl_models.engine import Target
from ppl_models.inference.guides import ResolvedGuide
from ppl_models.inference.methods import Method
from ppl_models.inference.methods.method import Found
from ppl_models.inference.methods.running import run_method
from ppl_models.inference.preconditioning.initial import Initial
from ppl_models.inference.ran import Ran, run_with
from ppl_models.inference.refitting.flat_draws import FlatDraws
from ppl_models.inference.runs import AUTO
from ppl_models.program import Program
from ppl_models.seeds import child_seed

AS_FOUND = ("normal", "full_rank", "mixture", "particles", "laplace")
"""Families that are just what the methods find for them; draws of these need no guide."""


@dataclass(frozen=True)
class MethodRoad:
    """A method, on a target whose data each refit fills anew.

    Attributes:
        method: the method.
        program: the model, called with the tensors that hold the data.
        resolved: the guide.
        initial: where the user wants it to begin.
        settings: of the fit.
        target: the log density at the present data.
        draw: draws of what it finds.
    """

    method: Method
    program: Program
    resolved: ResolvedGuide
    initial: Initial | None
    settings: Mapping[str, Any]
    target: Target
    draw: FlatDraws

    def run(self, seed: int, fresh: Program) -> Ran:
        """Fit the data that the program's tensors hold now, and leave the parameters in the store.

        `fresh` is another program with the same values, which the target was compared with.
        """
        del fresh
        self.target.evaluations = 0
        return run_with(
            self.method,
            self.program,
            self.resolved,
            self.initial,
            {**self.settings, "seed": seed},
            time.perf_counter() + self.settings["max_seconds"],
            progress=False,
            target=self.target,
        )

    def find(self, seed: int) -> Found:
        """What the method finds, without a guide to hold it."""
        found, _ = run_method(
            self.method,
            self.program,
            self.settings["method_options"],
            guide=self.resolved.guide,
            initial=self.initial,
            seed=child_seed(seed, self.method.name),
            max_steps=None if self.settings["max_steps"] == AUTO else self.settings["max_steps"],
            deadline=time.perf_counter() + self.settings["max_seconds"],
            update=lambda *_: None,
            target=self.target,
        )
        return found
