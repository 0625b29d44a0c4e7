"""Per-datum MCMC: the no-U-turn sampler for many data at once through a frozen model."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from arviz_stats.base import array_stats

from ppl_models.inference.by_datum.normals import Normals
from ppl_models.inference.by_datum.target import DatumTarget
from ppl_models.inference.by_datum.trajectories import Density, Trajectories
from ppl_models.inference.by_datum.warm_up import warm_up

SPREAD = 2.0
"""In standard deviations of the normal: how widely chains that start around it are spread."""


@dataclass(frozen=True)
class DatumChains:
    """Draws of each datum's own posterior.

    Attributes:
        points: unconstrained, shape (chain, draw, datum, dim).
        divergences: how many draws ended in a divergence, shape (datum,).
        step_size: in units of the normals' scales, shape (datum,).
        gradients: evaluations of each datum's gradient in one chain.
        rhat: rank-normalised split R-hat, shape (datum, dim).
        bulk_ess: effective numbers of draws for the centre, shape (datum, dim).
        tail_ess: of the 5 % and 95 % quantiles.
    """

    points: np.ndarray
    divergences: np.ndarray
    step_size: np.ndarray
    gradients: int
    rhat: np.ndarray
    bulk_ess: np.ndarray
    tail_ess: np.ndarray


def datum_nuts(
    target: DatumTarget,
    normals: Normals,
    *,
    num_chains: int = 4,
    num_warmup: int = 100,
    num_draws: int = 600,
    seed: int = 0,
) -> DatumChains:
    """Sample every datum's own posterior with the no-U-turn sampler, chains and data vectorised.

    Each datum has its own metric, the covariance of its normal, and its own step size. Chains start in turn around the
    normal, twice as wide as it, and at draws of the prior, which may find a mode that the normal misses. Halfway
    through the warm-up, those that came to places of negligible mass restart where others are.

    Args:
        target: log p(x, z) of each datum.
        normals: that fit the posteriors about.
        num_chains: chains of each datum, at least 2.
        num_warmup: draws of each chain that are thrown away, while step sizes adapt.
        num_draws: draws that are kept.
        seed: of everything random.

    Returns:
        The draws, with R-hat and effective numbers of each datum; whoever uses them must look at those.
    """
    generator = target.generator(seed)
    density = _whitened(target, normals)
    trajectories = Trajectories(density, _starts(target, normals, num_chains, generator, seed), generator)
    step, first = warm_up(trajectories, num_warmup // 2)
    trajectories = Trajectories(density, first.relocated(trajectories.now.point, generator), generator)
    step, second = warm_up(trajectories, num_warmup - num_warmup // 2, step)
    noise, divergences, ticks = _run(trajectories, step, num_draws)
    points = torch.stack([normals.points(part) for part in noise], dim=1).double().cpu().numpy()
    quantities = np.ascontiguousarray(points.transpose(2, 3, 0, 1))
    return DatumChains(
        points,
        divergences.sum(0).cpu().numpy(),
        step[0].double().cpu().numpy(),
        first.ticks + second.ticks + ticks,
        *_health(quantities),
    )


def _whitened(target: DatumTarget, normals: Normals) -> Density:
    """The density over the noise of the normals: where their metric is the identity."""

    def density(points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        value, slope = target(normals.points(points))
        return value, normals.inside(slope)

    return density


def _starts(
    target: DatumTarget, normals: Normals, num_chains: int, generator: torch.Generator, seed: int
) -> torch.Tensor:
    shape = (num_chains, *normals.mean.shape)
    noise = SPREAD * torch.randn(shape, generator=generator, dtype=normals.mean.dtype, device=normals.mean.device)
    prior = normals.noise_of(target.prior.drawn(num_chains, seed).points)
    noise[1::2] = prior[1::2]
    value, _ = target(normals.points(noise))
    # a start without density would never move
    return torch.where(torch.isfinite(value)[..., None], noise, torch.zeros_like(noise))


def _run(trajectories: Trajectories, step: torch.Tensor, num_draws: int) -> tuple[torch.Tensor, torch.Tensor, int]:
    """So many draws of every chain, shape (draw, chain, datum, dim), and divergences, shape (chain, datum)."""
    kept = step.new_empty(num_draws, *trajectories.now.point.shape)
    count = torch.zeros_like(step, dtype=torch.long)
    diverged, ticks = torch.zeros_like(count), 0
    while bool((count < num_draws).any()):
        ended = trajectories.tick(step)
        ticks += 1
        where = ended.where & (count < num_draws)
        chain, datum = where.nonzero(as_tuple=True)
        kept[count[chain, datum], chain, datum] = trajectories.now.point[chain, datum]
        diverged += where & ended.diverged
        count += where
    return kept, diverged, ticks


def _health(quantities: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """R-hat, bulk and tail effective numbers of draws, from quantities of shape (datum, dim, chain, draw)."""
    axes: Any = {"chain_axis": -2, "draw_axis": -1}
    with np.errstate(divide="ignore", invalid="ignore"):
        return (
            np.asarray(array_stats.rhat(quantities, method="rank", **axes), dtype=float),
            np.asarray(array_stats.ess(quantities, method="bulk", **axes), dtype=float),
            np.asarray(array_stats.ess(quantities, method="tail", prob=(0.05, 0.95), **axes), dtype=float),
        )


def effective_numbers(values: np.ndarray) -> np.ndarray:
    """Effective numbers of draws for means, shape (datum, dim), of values of shape (chain, draw, datum, dim)."""
    quantities = np.ascontiguousarray(values.transpose(2, 3, 0, 1))
    return np.asarray(array_stats.ess(quantities, method="mean", chain_axis=-2, draw_axis=-1), dtype=float)
