"""What chains say of the missing values of a block of rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ppl_models.checks import Check
from ppl_models.workflow.representation.chains import Course
from ppl_models.workflow.representation.mixing import ess_columns, rhat_columns
from ppl_models.workflow.representation.representation import Representation
from ppl_models.workflow.representation.results import Arrays, host

RHAT_LIMIT = 1.1
ESS_LIMIT = 50.0
ADVICE = "raise num_steps; if acceptance is low, train the guide longer or on data with missing values"


@dataclass(frozen=True)
class ImputedRows:
    """A block of rows.

    Attributes:
        draws: of the data by site, shape (chain, draw, *event).
        latents: draws of the latents by site, shape (chain, draw, *event).
        mean: of the data by site, shape (*event).
        sd: of the data.
        error: Monte Carlo standard error of the mean.
        health: by name, shape (row,).
    """

    draws: Arrays
    latents: Arrays
    mean: Arrays
    sd: Arrays
    error: Arrays
    health: Arrays


def imputed_rows(
    representation: Representation, courses: Sequence[Course], num_chains: int, masks: Mapping[str, torch.Tensor]
) -> ImputedRows:
    """Put the courses of chains together.

    Args:
        representation: of the fit.
        courses: one of all chains, or one of each chain.
        num_chains: how many chains there are in all.
        masks: what is missing by site, shape (*event).
    """
    inside = num_chains // len(courses)
    latents = np.concatenate([_chains_of_latents(course, inside) for course in courses])  # chain, draw, row, dim
    num_rows = latents.shape[2]
    health = _health(latents, separate=len(courses) > 1)
    for name in ("by_guide", "by_walk"):
        taken = [getattr(course, name) / course.steps for course in courses]
        rates = [host(t.reshape(inside, -1).double().mean(0)) if isinstance(t, torch.Tensor) else None for t in taken]
        known = [rate for rate in rates if rate is not None]
        health[f"acceptance_{name[3:]}"] = np.mean(known, axis=0) if known else np.full(num_rows, np.nan)
    counts = [mask.movedim(representation.axis(name), 0).reshape(num_rows, -1).sum(1) for name, mask in masks.items()]
    health["num_missing"] = host(torch.stack(counts).sum(0))
    health["reliable"] = (health["r_hat"] <= RHAT_LIMIT) & (health["ess"] >= ESS_LIMIT)
    steps = num_chains * courses[0].steps
    kept = _kept(representation, [course.kept for course in courses], inside)
    mean, sd, error = {}, {}, {}
    for name, mask in masks.items():
        axis = representation.axis(name)
        value = [_over_chains([course.values[name][i] for course in courses], axis, inside) / steps for i in (0, 1)]
        smooth = [_over_chains([course.means[name][i] for course in courses], axis, inside) / steps for i in (0, 1)]
        missing = host(mask)
        shape = [1] * missing.ndim
        shape[axis] = -1
        mean[name] = np.where(missing, smooth[0], kept[name][0, 0])
        sd[name] = np.where(missing, _root(value), 0.0)
        error[name] = np.where(missing, _root(smooth) / np.sqrt(health["ess"]).reshape(shape), 0.0)
    return ImputedRows(
        kept,
        _kept(representation, [course.kept_latents for course in courses], inside),
        mean,
        sd,
        error,
        health,
    )


def health_checks(health: Mapping[str, np.ndarray], num_steps: int) -> tuple[Check, ...]:
    """Whether the chains of all rows have converged: the largest R-hat and the smallest effective number of draws."""
    number = int((~health["reliable"]).sum())
    guide = float(np.median(health["acceptance_guide"]))
    note = f"{number} of {len(health['reliable'])} rows fail, {num_steps} steps, median acceptance {guide:.2g}"
    checks = []
    for name, key, limit, sign in (("R-hat", "r_hat", RHAT_LIMIT, 1), ("effective draws", "ess", ESS_LIMIT, -1)):
        values = health[key]
        if np.isnan(values).any():
            row = int(np.isnan(values).argmax())
            checks.append(Check(name, np.nan, limit, None, ADVICE, detail=f"row {row} did not move"))
            continue
        row = int((sign * values).argmax())
        value = float(values[row])
        passed = sign * value <= sign * limit
        checks.append(Check(name, value, limit, passed, "" if passed else ADVICE, detail=f"worst: row {row}; {note}"))
    return tuple(checks)


def _chains_of_latents(course: Course, inside: int) -> np.ndarray:
    """Shape (chain, draw, row, dim)."""
    stacked = host(torch.stack(course.latents))
    return np.moveaxis(stacked.reshape(len(stacked), inside, -1, stacked.shape[-1]), 0, 1).astype(float)


def _health(latents: np.ndarray, *, separate: bool) -> Arrays:
    """R-hat and effective draws of each row: of all chains together, or of each by itself and the worst of them."""
    num_chains, num_draws, num_rows, num_dims = latents.shape
    flat = latents.reshape(num_chains, num_draws, -1)
    groups = [flat[chain : chain + 1] for chain in range(num_chains)] if separate else [flat]
    rhat = np.max([rhat_columns(group) for group in groups], axis=0)
    ess = np.sum([ess_columns(group) for group in groups], axis=0)
    return {"r_hat": rhat.reshape(num_rows, num_dims).max(1), "ess": ess.reshape(num_rows, num_dims).min(1)}


def _over_chains(sums: Sequence[torch.Tensor], axis: int, inside: int) -> np.ndarray:
    total = sum(host(value.unflatten(axis, (inside, -1)).sum(axis)) for value in sums)
    return np.asarray(total)


def _root(moments: Sequence[np.ndarray]) -> np.ndarray:
    return np.sqrt(np.maximum(moments[1] - moments[0] ** 2, 0.0))


def _kept(
    representation: Representation, courses: Sequence[Sequence[Mapping[str, torch.Tensor]]], inside: int
) -> Arrays:
    """Kept states by site, shape (chain, draw, *event)."""
    found = {}
    for name in courses[0][0]:
        axis = representation.axis(name)
        parts = []
        for course in courses:
            stacked = torch.stack([state[name] for state in course])
            parts.append(host(stacked.unflatten(axis + 1, (inside, -1)).movedim(axis + 1, 0)))
        found[name] = np.concatenate(parts)
    return found
