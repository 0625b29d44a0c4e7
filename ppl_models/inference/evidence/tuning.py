"""Step sizes along a path, from a pilot run whose chains are thrown away: the run itself must not adapt."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ppl_models.inference.evidence.hmc_transitions import Steps, transition
from ppl_models.inference.evidence.tempered_path import States, TemperedPath

TARGET = 0.8
"""Share of proposals to accept, of those trajectories that are shorter than `LONGEST`."""
LONGEST = math.pi / 2
"""A quarter of the period of a normal of unit scale: where a trajectory forgets its start."""
SWEEPS = 4
GAIN = 1.0
LEAST_SCALE, MOST_SCALE = 1e-8, 1e8


@dataclass(frozen=True)
class Tuning:
    """Steps at some temperatures of a path, for all between them.

    Attributes:
        temperatures: inverse temperatures, rising, shape (knot,).
        log_size: of the leapfrog step, shape (knot, datum).
        log_scale: of each direction, shape (knot, datum, dim of one).
        count: leapfrog steps in one transition.
        points: where the chains stood, shape (knot, chain, datum, dim of one); None where they were not kept.
    """

    temperatures: tuple[float, ...]
    log_size: torch.Tensor
    log_scale: torch.Tensor
    count: int
    points: torch.Tensor | None

    def at(self, temperature: float) -> Steps:
        """The steps at one inverse temperature, by linear interpolation."""
        knot, share = self._place(temperature)
        size, scale = (
            torch.lerp(values[knot], values[knot + 1], share).exp() for values in (self.log_size, self.log_scale)
        )
        return Steps(size, scale, self.count)

    def _place(self, temperature: float) -> tuple[int, float]:
        knots = self.temperatures
        knot = min(max(bisect_right(knots, temperature) - 1, 0), len(knots) - 2)
        share = (temperature - knots[knot]) / (knots[knot + 1] - knots[knot])
        return knot, min(max(share, 0.0), 1.0)


def tune(
    path: TemperedPath,
    states: States,
    temperatures: Sequence[float],
    count: int,
    generator: torch.Generator,
    *,
    keep: bool = False,
) -> Tuning:
    """Anneal chains quickly, and read step sizes off them, for each datum.

    Args:
        path: the densities.
        states: independent draws of the start; the chains of the pilot.
        temperatures: knots, rising from 0 to 1.
        count: leapfrog steps in one transition.
        generator: of all randomness.
        keep: whether to keep where the chains stood.
    """
    longest = math.log(LONGEST / count)
    log_size = torch.full_like(states.first[0], longest)
    sizes, scales, points = [], [], []
    for temperature in temperatures:
        for _ in range(SWEEPS):
            steps = Steps(log_size.exp(), _scale(states.points), count)
            states, probability = transition(path, states, log_size.new_tensor(temperature), steps, generator)
            log_size = (log_size + GAIN * (probability.mean(0) - TARGET)).clamp(max=longest)
        sizes.append(log_size)
        scales.append(_scale(states.points).log())
        if keep:
            points.append(states.points)
    kept = torch.stack(points) if keep else None
    return Tuning(tuple(temperatures), torch.stack(sizes), torch.stack(scales), count, kept)


def _scale(points: torch.Tensor) -> torch.Tensor:
    """Standard deviations over the chains, shape (datum, dim of one)."""
    return points.std(0).nan_to_num(1.0, 1.0, 1.0).clamp(LEAST_SCALE, MOST_SCALE)
