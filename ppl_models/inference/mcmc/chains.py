"""What a kernel is given and what it returns, in unconstrained space."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ppl_models.engine import CompiledDensity
from ppl_models.progress import Update


@dataclass(frozen=True)
class ChainSettings:
    """How to run chains: how many, how long, and the acceptance statistic that warm-up aims the step size at.

    `deadline` is the `time.perf_counter()` at which a kernel that can gives up, with a `TimeoutError`; None for never.
    `starts` are points, shape (point, dim), of which each chain begins at one; None for points of the kernel's own.
    """

    chains: int
    warmup: int
    draws: int
    target_accept: float
    seed: int
    deadline: float | None = None
    starts: np.ndarray | None = None


@dataclass(frozen=True)
class Chains:
    """Draws of a kernel.

    Attributes:
        flat: unconstrained draws, shape (chain, draw, dim).
        stats: by ArviZ's names, arrays of shape (chain, draw); always `diverging`, `lp` (nats) and `energy`.
    """

    flat: np.ndarray
    stats: dict[str, np.ndarray]


class Kernel(Protocol):
    """One MCMC kernel: one file, listed in `sampling.py`."""

    def __call__(self, density: CompiledDensity, settings: ChainSettings, update: Update) -> Chains:
        """Run the chains. Called inside `program.isolated()`."""
        ...
