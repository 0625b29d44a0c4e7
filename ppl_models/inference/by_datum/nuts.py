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
from ppl_models.inference.chain_limits import ESS_LIMIT, RHAT_LIMIT

MOST_DOUBLINGS = 2
NUM_PARTS, LEFT_BEHIND = 16, 25
"""Parts in which a chain goes on, side by side from places along it, and draws until a part has left its place."""
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
        doublings: how often the datum's chains went on for as many draws again, all thinned; shape (datum,).
        rhat: rank-normalised split R-hat, shape (datum, dim).
        bulk_ess: effective numbers of draws for the centre, shape (datum, dim).
        tail_ess: of the 5 % and 95 % quantiles.
    """

    points: np.ndarray
    divergences: np.ndarray
    step_size: np.ndarray
    gradients: int
    doublings: np.ndarray
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
    through the warm-up, those that came to places of negligible mass restart where others are. Data whose chains have
    not mixed by R-hat and effective numbers, but would soon, go on by themselves for as many draws again, twice at
    most, and of all draws every second is kept. A chain goes on in parts side by side: one tick costs much the same for
    many points as for few.

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
    noise, diverged, ticks = _run(trajectories, step, num_draws)
    points, divergences = _host(normals, noise), diverged.sum(0).cpu().numpy()
    health, doublings = _health(points), np.zeros(target.num_data, dtype=int)
    ticks += first.ticks + second.ticks
    for times in range(MOST_DOUBLINGS):
        within_reach = _within_reach(*health, 2.0 ** (MOST_DOUBLINGS - times)) & (divergences == 0)
        where = np.flatnonzero(within_reach) if num_chains * num_draws >= ESS_LIMIT else []
        if not len(where):
            break
        index = torch.as_tensor(where, device=step.device)
        more, diverged, spent = _gone_on(
            target.take(index),
            normals.take(index),
            step[0, index],
            points[:, :, where],
            2**times * num_draws,
            generator,
        )
        points[:, :, where] = np.concatenate([points[:, :, where], more[:, :: 2**times]], axis=1)[:, 1::2]
        divergences[where] += diverged
        ticks += spent
        doublings[where] += 1
        for part, found in zip(health, _health(points[:, :, where]), strict=True):
            part[where] = found
    return DatumChains(points, divergences, step[0].double().cpu().numpy(), ticks, doublings, *health)


def _gone_on(
    target: DatumTarget,
    normals: Normals,
    step: torch.Tensor,
    points: np.ndarray,
    num_draws: int,
    generator: torch.Generator,
) -> tuple[np.ndarray, np.ndarray, int]:
    """More draws of every chain, shape (chain, draw, datum, dim), divergences of each datum, and ticks."""
    num_chains, length, *shape = points.shape
    places = (np.arange(NUM_PARTS) * length) // NUM_PARTS
    starts = target.tensor(points[:, places].reshape(num_chains * NUM_PARTS, *shape))
    trajectories = Trajectories(_whitened(target, normals), normals.noise_of(starts), generator)
    each = LEFT_BEHIND + -(-num_draws // NUM_PARTS)
    noise, diverged, ticks = _run(trajectories, step.expand(len(starts), -1), each)
    found = _host(normals, noise[LEFT_BEHIND:]).reshape(num_chains, -1, *shape)
    return found[:, :num_draws], diverged.sum(0).cpu().numpy(), ticks


def _host(normals: Normals, noise: torch.Tensor) -> np.ndarray:
    """Draws of shape (chain, draw, datum, dim) from noise of shape (draw, chain, datum, dim)."""
    return torch.stack([normals.points(part) for part in noise], dim=1).double().cpu().numpy()


def _within_reach(rhat: np.ndarray, bulk_ess: np.ndarray, tail_ess: np.ndarray, times: float) -> np.ndarray:
    """Data whose chains have not mixed, but would with so many times the draws, if they mix at all: shape (datum,).

    Of chains that mix, effective numbers grow with the draws, and the square of R-hat less 1 goes down with them.
    """
    ess, excess = np.minimum(bulk_ess, tail_ess), rhat**2 - 1.0
    mixed = (rhat <= RHAT_LIMIT) & (ess >= ESS_LIMIT)
    near = (excess <= times * (RHAT_LIMIT**2 - 1.0)) & (times * ess >= ESS_LIMIT)
    return np.logical_and(near.all(1), ~mixed.all(1))


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


def _health(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """R-hat, bulk and tail effective numbers of draws, shape (datum, dim), of draws (chain, draw, datum, dim)."""
    quantities = np.ascontiguousarray(points.transpose(2, 3, 0, 1))
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
