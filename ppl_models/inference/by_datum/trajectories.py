"""No-U-turn trajectories of many chains and data side by side, each at its own place in its own tree."""

from dataclasses import dataclass
from typing import Protocol

import torch

MOST_DEPTH = 10
DIVERGENCE = 1_000.0
"""Error of the energy in nats beyond which a trajectory counts as divergent."""


class Density(Protocol):
    """A log density in coordinates in which its scale is about one."""

    def __call__(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Log density, shape (chain, datum), and gradient, at points (chain, datum, dim)."""
        ...


@dataclass(frozen=True)
class Places:
    """Points with momentum, gradient and log density, side by side in one tensor: one choice moves them all.

    Attributes:
        packed: shape (chain, datum, 3 dim + 1).
    """

    packed: torch.Tensor

    @classmethod
    def of(cls, point: torch.Tensor, momentum: torch.Tensor, slope: torch.Tensor, value: torch.Tensor) -> "Places":
        """Of tensors of shape (chain, datum, dim), and the log density, shape (chain, datum)."""
        return cls(torch.cat([point, momentum, slope, value[..., None]], -1))

    @property
    def point(self) -> torch.Tensor:
        """Shape (chain, datum, dim)."""
        return self.packed[..., : self._dims]

    @property
    def momentum(self) -> torch.Tensor:
        """Shape (chain, datum, dim)."""
        return self.packed[..., self._dims : 2 * self._dims]

    @property
    def slope(self) -> torch.Tensor:
        """Gradient of the log density, shape (chain, datum, dim)."""
        return self.packed[..., 2 * self._dims : -1]

    @property
    def value(self) -> torch.Tensor:
        """Log density, nats, shape (chain, datum)."""
        return self.packed[..., -1]

    @property
    def _dims(self) -> int:
        return self.packed.shape[-1] // 3

    def where(self, chosen: torch.Tensor, other: "Places") -> "Places":
        """These where the condition of shape (chain, datum) holds, the others elsewhere."""
        return Places(torch.where(chosen[..., None], self.packed, other.packed))


@dataclass(frozen=True)
class Ended:
    """What a tick finished.

    Attributes:
        where: whose trajectory ended, shape (chain, datum).
        acceptance: mean probability of acceptance along it.
        diverged: whether it ended in a divergence.
        depth: how often it doubled.
    """

    where: torch.Tensor
    acceptance: torch.Tensor
    diverged: torch.Tensor
    depth: torch.Tensor


class Trajectories:
    """Chains that build their trees leaf by leaf: one gradient of all of them at each tick, none waits for another.

    Draws are multinomial along a trajectory that doubles in random directions until it turns back upon itself, by the
    momenta summed along it. The subtree under way keeps the first leaf of each of its own unfinished subtrees, by the
    number of bits set in the leaf's index, so that no recursion is needed.

    Args:
        density: the log density.
        points: where the chains start, shape (chain, datum, dim).
        generator: of all randomness.
        most_depth: most doublings.

    Attributes:
        now: the state of each chain, the last draw.

    Hoffman and Gelman (2014), The no-U-turn sampler; Betancourt (2017), A conceptual introduction to Hamiltonian Monte
    Carlo; Phan, Pradhan and Jankowiak (2019), Composable effects for flexible and accelerated probabilistic programming
    in NumPyro (the tree without recursion).
    """

    def __init__(
        self, density: Density, points: torch.Tensor, generator: torch.Generator, most_depth: int = MOST_DEPTH
    ):
        self._density, self._generator, self._most_depth = density, generator, most_depth
        value, slope = density(points)
        self.now = Places.of(points, torch.zeros_like(points), slope, value)
        shape = (*points.shape[:2], most_depth, points.shape[2])
        self._first_momenta, self._first_sums = points.new_zeros(shape), points.new_zeros(shape)
        leaves = torch.arange(2**most_depth, device=points.device)
        self._slots = torch.arange(most_depth, device=points.device)
        self._bits = _num_bits(leaves, most_depth)
        self._last_ones = _num_bits(leaves ^ (leaves + 1), most_depth + 1) - 1
        everywhere = torch.ones_like(value, dtype=torch.bool)
        self._left = self._right = self._tip = self._proposal = self.now
        self._tree_sum = self._sum = torch.zeros_like(points)
        self._tree_weight = self._weight = self._energy = torch.zeros_like(value)
        self._depth = self._leaf = torch.zeros_like(value, dtype=torch.long)
        self._forward = everywhere
        self._accepted, self._count = torch.zeros_like(value), torch.zeros_like(value)
        self._begin(everywhere)

    def tick(self, step: torch.Tensor) -> Ended:
        """One leapfrog step of every chain, of a size of shape (chain, datum); ended trajectories begin anew."""
        self._leap(torch.where(self._forward, step, -step)[..., None])
        gain = self._energy - _energy(self._tip)
        gain = gain.nan_to_num(-torch.inf, -torch.inf, -torch.inf)
        diverged = gain < -DIVERGENCE
        self._accepted = self._accepted + gain.clamp(max=0.0).exp()
        self._count = self._count + 1.0
        self._weight = torch.logaddexp(self._weight, gain)
        chosen = self._uniform().log() < gain - self._weight
        self._proposal = self._tip.where(chosen, self._proposal)
        self._sum = self._sum + self._tip.momentum
        failed = diverged | self._subtree_turns()
        self._leaf = self._leaf + 1
        complete = ~failed & (self._leaf == 2**self._depth)
        turned = self._merge(complete)
        ended = Ended(failed | turned, self._accepted / self._count, diverged, self._depth)
        self._begin(ended.where)
        self._begin_subtree(complete | ended.where)
        return ended

    def _leap(self, step: torch.Tensor) -> None:
        tip = self._tip
        momentum = tip.momentum + 0.5 * step * tip.slope
        point = tip.point + step * momentum
        value, slope = self._density(point)
        self._tip = Places.of(point, momentum + 0.5 * step * slope, slope, value)

    def _subtree_turns(self) -> torch.Tensor:
        """Whether a subtree that this leaf completes turns; a leaf of even index begins subtrees instead."""
        num_slots = int(self._depth.max()) + 1
        bits, ones = self._bits[self._leaf][..., None], self._last_ones[self._leaf][..., None]
        slots, even = self._slots[:num_slots], ones == 0
        here = (even & (slots == bits))[..., None]
        momentum, total = self._tip.momentum[..., None, :], self._sum[..., None, :]
        momenta, sums = self._first_momenta[..., :num_slots, :], self._first_sums[..., :num_slots, :]
        torch.where(here, momentum, momenta, out=momenta)
        torch.where(here, total, sums, out=sums)
        ending = (slots < bits) & (slots >= bits - ones)
        return (ending & _turns(momenta, momentum, total - sums + momenta)).any(-1)

    def _merge(self, complete: torch.Tensor) -> torch.Tensor:
        """Join finished subtrees to their trees; whether the tree turns, or is as deep as it may be."""
        better = self._uniform().log() < self._weight - self._tree_weight
        self.now = self._proposal.where(complete & better, self.now)
        self._tree_weight = torch.where(complete, torch.logaddexp(self._tree_weight, self._weight), self._tree_weight)
        self._tree_sum = torch.where(complete[..., None], self._tree_sum + self._sum, self._tree_sum)
        self._right = self._tip.where(complete & self._forward, self._right)
        self._left = self._tip.where(complete & ~self._forward, self._left)
        self._depth = torch.where(complete, self._depth + 1, self._depth)
        turns = _turns(self._left.momentum, self._right.momentum, self._tree_sum)
        return complete & (turns | (self._depth >= self._most_depth))

    def _begin(self, where: torch.Tensor) -> None:
        """Begin a trajectory from the last draw, with a fresh momentum."""
        now = self.now
        momentum = torch.randn(now.point.shape, generator=self._generator, **_kind(now.point))
        fresh = Places.of(now.point, momentum, now.slope, now.value)
        self.now = fresh.where(where, now)
        self._left, self._right = self.now.where(where, self._left), self.now.where(where, self._right)
        self._tree_sum = torch.where(where[..., None], self.now.momentum, self._tree_sum)
        zero = torch.zeros_like(now.value)
        self._energy = torch.where(where, _energy(self.now), self._energy)
        self._tree_weight = torch.where(where, zero, self._tree_weight)
        self._accepted, self._count = torch.where(where, zero, self._accepted), torch.where(where, zero, self._count)
        self._depth = torch.where(where, 0, self._depth)
        self._begin_subtree(where)

    def _begin_subtree(self, where: torch.Tensor) -> None:
        self._forward = torch.where(where, self._uniform() < 0.5, self._forward)
        self._tip = self._right.where(where & self._forward, self._left.where(where & ~self._forward, self._tip))
        self._sum = torch.where(where[..., None], 0.0, self._sum)
        self._weight = torch.where(where, -torch.inf, self._weight)
        self._leaf = torch.where(where, 0, self._leaf)

    def _uniform(self) -> torch.Tensor:
        return torch.rand(self._energy.shape, generator=self._generator, **_kind(self._energy))


def _kind(like: torch.Tensor) -> dict:
    return {"dtype": like.dtype, "device": like.device}


def _energy(place: Places) -> torch.Tensor:
    return 0.5 * place.momentum.square().sum(-1) - place.value


def _turns(first: torch.Tensor, last: torch.Tensor, along: torch.Tensor) -> torch.Tensor:
    """Whether the way from one end to the other, the momenta summed with half of the ends', points back at either."""
    way = along - 0.5 * (first + last)
    return ((first * way).sum(-1) <= 0.0) | ((last * way).sum(-1) <= 0.0)


def _num_bits(numbers: torch.Tensor, most: int) -> torch.Tensor:
    """How many bits are set."""
    places = torch.arange(most + 1, device=numbers.device)
    return ((numbers[..., None] >> places) & 1).sum(-1)
