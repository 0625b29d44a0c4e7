"""What a particle filter writes down at each time, and what many runs of it say together."""

import numpy as np
import torch

from ppl_models.inference.evidence.laws import State

Found = dict[str, torch.Tensor]
"""What is recorded at one time, by name, each of shape (run, ...)."""


def record(
    state: State, log_weights: torch.Tensor, ancestors: torch.Tensor, effective: torch.Tensor, total: torch.Tensor
) -> Found:
    """What is written down at one time.

    Args:
        state: parts of the state by name, shape (run * particle, *event).
        log_weights: normalised, nats, shape (run, particle).
        ancestors: places of the ancestors, shape (run, particle).
        effective: effective numbers of particles, shape (run,).
        total: log evidence up to now in nats, shape (run,).
    """
    weights, lost = log_weights.exp(), total.isneginf()
    found = {
        "log_evidence": total,
        "effective": torch.where(lost, 0.0, effective),
        "unique": torch.zeros_like(weights).scatter_(1, ancestors, 1.0).mean(1),
        "log_weights": log_weights,
        "ancestors": ancestors,
    }
    for name, value in state.items():
        particles = value.reshape(*weights.shape, *value.shape[1:])
        flat = particles.reshape(*weights.shape, -1).to(weights.dtype)
        mean = torch.einsum("rn,rne->re", weights, flat)
        square = torch.einsum("rn,rne->re", weights, (flat - mean[:, None]).square())
        found[f"particles {name}"] = particles
        found[f"mean {name}"] = mean.reshape(-1, *value.shape[1:])
        found[f"variance {name}"] = square.reshape(-1, *value.shape[1:])
    return found


def without_particles(found: Found) -> Found:
    """Without what has an axis of particles."""
    return {name: value for name, value in found.items() if not _of_particles(name)}


def _of_particles(name: str) -> bool:
    return name in ("log_weights", "ancestors") or name.startswith("particles ")


def stacked(records: list[Found]) -> dict[str, np.ndarray]:
    """All times by name, each of shape (run, time, ...); the last alone of what the others do not hold."""
    return {
        name: torch.stack([found[name] for found in records if name in found], dim=1).cpu().numpy()
        for name in records[-1]
    }


def by_name(found: dict[str, np.ndarray], kind: str) -> dict[str, np.ndarray]:
    """What is recorded of each part of the state: its "mean", "variance" or "particles"."""
    return {name.removeprefix(f"{kind} "): value for name, value in found.items() if name.startswith(f"{kind} ")}


def between_runs(means: np.ndarray, variances: np.ndarray, totals: np.ndarray) -> tuple[np.ndarray, ...]:
    """Mean, its standard error and sd of the state, of all runs weighted by their estimates of the evidence.

    The weighted mean is a ratio of two unbiased estimates; its error is by the delta method. NaN where no run has
    particles left.
    """
    top = totals.max(axis=0)
    weights = np.exp(totals - np.where(np.isfinite(top), top, 0.0))
    with np.errstate(invalid="ignore"):
        weights = (weights / weights.sum(axis=0)).reshape(totals.shape + (1,) * (means.ndim - 2))
    mean = (weights * means).sum(axis=0)
    error = np.sqrt((weights**2 * (means - mean) ** 2).sum(axis=0))
    return mean, error, np.sqrt((weights * (variances + (means - mean) ** 2)).sum(axis=0))
