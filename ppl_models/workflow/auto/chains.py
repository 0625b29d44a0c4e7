"""The last rung: NUTS, in the coordinates of the best fit."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from ppl_models.diagnostics import Check, gates_passed
from ppl_models.errors import PPLError, first_line
from ppl_models.inference import Fit, sample_chains
from ppl_models.program import Data
from ppl_models.seeds import child_seed
from ppl_models.workflow.baseline import tree_gates

CHAINS, WARMUP, DRAWS = 4, 500, 1_000
TARGET = 0.9
STRICTER = 0.99
"""Acceptance statistic that warm-up aims at where chains with the usual one diverged."""
MORE = 4
"""Times as many draws where there were too few."""
LEAST_SECONDS = 1.0


@dataclass(frozen=True)
class Chains:
    """What NUTS gave: draws that passed the gates of a baseline, or why there are none."""

    tree: xr.DataTree | None
    checks: tuple[Check, ...]
    evaluations: int
    reason: str = ""


def sample_from(
    fit: Fit | None,
    model: Callable[..., Any],
    data: Data,
    *,
    seed: int,
    deadline: float,
    common: Mapping[str, Any],
) -> Chains:
    """Sample in the coordinates of a fit; stricter once where chains diverged, longer where they were too short.

    Args:
        fit: gives the coordinates; None for the model's own.
        model: a Pyro model.
        data: whole.
        seed: of everything random.
        deadline: `time.perf_counter()` at which to give up.
        common: arguments of `sample_chains`.
    """
    target, draws, evaluations, found = TARGET, DRAWS, 0, Chains(None, (), 0, "no time was left")
    parameters = fit.parameters if fit is not None else None
    for attempt in range(3):
        seconds = deadline - time.perf_counter()
        if seconds < LEAST_SECONDS:
            break
        try:
            tree = sample_chains(
                model,
                data,
                chains=CHAINS,
                warmup=WARMUP if attempt == 0 else MORE * WARMUP,
                draws=draws,
                target_accept=target,
                parameters=parameters,
                init=fit,
                max_seconds=seconds,
                seed=child_seed(seed, f"chains {attempt}"),
                **common,
            )
        except TimeoutError:
            return Chains(None, found.checks, evaluations, "the seconds were used up")
        except PPLError as error:
            return Chains(None, found.checks, evaluations, first_line(error))
        evaluations += _evaluations(tree)
        gates = tree_gates(tree)
        if gates_passed(gates):
            return Chains(tree, gates, evaluations)
        found = Chains(None, gates, evaluations)
        diverged = any(gate.name == "divergences" and gate.passed is not True for gate in gates)
        target = STRICTER if diverged else target
        draws = MORE * DRAWS
    return found


def _evaluations(tree: xr.DataTree) -> int:
    """Gradients computed: those of the draws kept, and as many a draw for the warm-up."""
    stats = tree["sample_stats"].to_dataset()
    if "n_steps" not in stats:
        return 0
    steps = np.asarray(stats["n_steps"])
    warmup = json.loads(tree.attrs["config"])["warmup"]
    return int(steps.sum() * (1.0 + warmup / max(1, steps.shape[1])))
