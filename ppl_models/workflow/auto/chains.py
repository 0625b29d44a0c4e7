"""The last rung: NUTS, in the coordinates of the best fit."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from ppl_models.diagnostics import Check, gates_passed
from ppl_models.diagnostics.labelled import labelled_draws
from ppl_models.errors import PPLError, first_line
from ppl_models.inference import Fit, sample_chains
from ppl_models.program import Data
from ppl_models.seeds import child_seed
from ppl_models.workflow.baseline import tree_gates
from ppl_models.workflow.weighing import Pool

CHAINS, WARMUP, DRAWS = 4, 500, 1_000
TARGET = 0.9
STRICTER = 0.99
"""Acceptance statistic that warm-up aims at where chains with the usual one diverged."""
MORE = 4
"""Times as many draws where there were too few."""
LEAST_SECONDS = 1.0
NUM_STARTS = 400
FAR, KNOWN = 0.5, 0.15
"""Sds by which chains may differ from the guides' weighted draws, where these are known well enough."""


@dataclass(frozen=True)
class Chains:
    """What NUTS gave: draws that passed the gates of a baseline, or why there are none."""

    tree: xr.DataTree | None
    checks: tuple[Check, ...]
    evaluations: int
    reason: str = ""


def sample_from(
    fit: Fit | None,
    pooled: Pool | None,
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
        pooled: draws of all guides, for chains to start at, so that R-hat sees the modes that these have seen.
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
                starts=pooled.starts(NUM_STARTS, child_seed(seed, "starts")) if pooled is not None else None,
                max_seconds=seconds,
                seed=child_seed(seed, f"chains {attempt}"),
                **common,
            )
        except TimeoutError:
            return Chains(None, found.checks, evaluations, "the seconds were used up")
        except (PPLError, np.linalg.LinAlgError) as error:
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


def held_against(chains: Chains, pooled: Pool, labels: Sequence[str]) -> Chains:
    """Chains that passed their gates, refused where the weighted draws of the guides clearly say otherwise."""
    assert chains.tree is not None
    found = labelled_draws(chains.tree["posterior"].to_dataset())
    order = [found.labels.index(label) for label in labels if label in found.labels]
    keep = [number for number, label in enumerate(labels) if label in found.labels]
    values = found.values.reshape(-1, len(found.labels))[:, order]
    mean, sd = pooled.moments.mean[keep], pooled.moments.sd[keep]
    error = pooled.moments.mean_error[keep]
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = np.abs(values.mean(axis=0) - mean) / np.maximum(sd, values.std(axis=0)) - 3.0 * error
    distance = np.where(pooled.moments.varies[keep] & (error < KNOWN), distance, 0.0)
    value = max(0.0, float(distance.max(initial=0.0)))
    worst = labels[keep[int(distance.argmax())]] if len(distance) else ""
    check = Check(
        "weighted draws",
        value,
        FAR,
        value <= FAR,
        "",
        detail=f"the guides' weighted draws have another mean of '{worst}', by {value:.2g} sd beyond chance"
        if value
        else "",
    )
    checks = (*chains.checks, check)
    return replace(chains, checks=checks) if check.passed else Chains(None, checks, chains.evaluations)


def _evaluations(tree: xr.DataTree) -> int:
    """Gradients computed: those of the draws kept, and as many a draw for the warm-up."""
    stats = tree["sample_stats"].to_dataset()
    if "n_steps" not in stats:
        return 0
    steps = np.asarray(stats["n_steps"])
    warmup = json.loads(tree.attrs["config"])["warmup"]
    return int(steps.sum() * (1.0 + warmup / max(1, steps.shape[1])))
