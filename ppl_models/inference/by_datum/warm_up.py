"""Warm-up of chains: step sizes for each datum, and where chains stand that got lost."""

from dataclasses import dataclass

import torch

from ppl_models.inference.by_datum.trajectories import Trajectories

TARGET_ACCEPT = 0.8
GAIN, DELAY, FORGET = 0.05, 10.0, 0.75
"""Of dual averaging: how far the log step size moves, how many early trajectories are damped, how fast they fade."""
FIRST_STEP = 0.25
SHORTEST, LONGEST = -15.0, 1.5
"""Of the log step size, in units of a datum's scale."""
NEGLIGIBLE = 12.0
"""Nats of mass below which a place is left; about, as the mass is that of a normal with a chain's moments."""


@dataclass(frozen=True)
class Warmth:
    """Where chains stood in the later half of a warm-up.

    Attributes:
        log_mass: log of the mass around each chain, nats, up to a constant, shape (chain, datum): mean log density, and
            the volume of a normal with the chain's standard deviations.
        ticks: how many gradients of each datum it took.
    """

    log_mass: torch.Tensor
    ticks: int

    def relocated(self, points: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Points of shape (chain, datum, dim), with those of lost chains replaced by those of others."""
        lost = self.log_mass < self.log_mass.max(0).values - NEGLIGIBLE
        shape, kind = points.shape[:2], {"dtype": points.dtype, "device": points.device}
        luck = torch.rand((shape[0], *shape), generator=generator, **kind)
        donor = torch.where(lost, -1.0, luck).argmax(1)  # of each chain, among the chains that are not lost
        moved = torch.take_along_dim(points, donor[..., None], 0)
        return torch.where(lost[..., None], moved, points)


def warm_up(
    trajectories: Trajectories, num_draws: int, step: torch.Tensor | None = None
) -> tuple[torch.Tensor, Warmth]:
    """Find step sizes by dual averaging, one for each datum in the end.

    Args:
        trajectories: the chains.
        num_draws: how many draws each makes.
        step: where to begin, shape (chain, datum).

    Returns:
        Step sizes, shape (chain, datum), and where the chains stood.

    Hoffman and Gelman (2014), The no-U-turn sampler, section 3.2.
    """
    like = trajectories.now.value
    centre = torch.zeros_like(like) if step is None else step.log()
    log_step = torch.full_like(like, FIRST_STEP).log() if step is None else step.log()
    averaged, error = log_step.clone(), torch.zeros_like(like)
    count, ticks, sums = torch.zeros_like(like), 0, _Sums(trajectories)
    while bool((count < num_draws).any()):
        ended = trajectories.tick(log_step.exp())
        ticks += 1
        where, count = ended.where, count + ended.where
        sums.add(where & (count > num_draws // 2) & (count <= num_draws))
        share = 1.0 / (count.clamp(min=1.0) + DELAY)
        error = torch.where(where, (1.0 - share) * error + share * (TARGET_ACCEPT - ended.acceptance), error)
        proposed = (centre - count.sqrt() / GAIN * error).clamp(SHORTEST, LONGEST)
        log_step = torch.where(where, proposed, log_step)
        weight = count.clamp(min=1.0) ** -FORGET
        averaged = torch.where(where, weight * log_step + (1.0 - weight) * averaged, averaged)
    return averaged.mean(0).exp().expand_as(like), Warmth(sums.log_mass(), ticks)


class _Sums:
    """Sums over draws, from which means and variances come."""

    def __init__(self, trajectories: Trajectories):
        self._trajectories = trajectories
        self._origin = trajectories.now.point
        self._count = self._value = torch.zeros_like(trajectories.now.value)
        self._first = self._second = torch.zeros_like(self._origin)

    def add(self, where: torch.Tensor) -> None:
        """Count the chains' last draws where the condition of shape (chain, datum) holds."""
        now = self._trajectories.now
        away = torch.where(where[..., None], now.point - self._origin, 0.0)
        self._count, self._value = self._count + where, self._value + torch.where(where, now.value, 0.0)
        self._first, self._second = self._first + away, self._second + away.square()

    def log_mass(self) -> torch.Tensor:
        """Mean log density and log volume, shape (chain, datum)."""
        count = self._count.clamp(min=1.0)
        wide = count[..., None]
        variance = (self._second / wide - (self._first / wide).square()).clamp(min=1e-12)
        return self._value / count + 0.5 * variance.log().sum(-1)
