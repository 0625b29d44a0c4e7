"""Groups of parameters, each with coordinates of its own in which every direction has about unit scale."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Protocol

import pyro
import torch
from torch.distributions import transform_to
from torch.distributions.constraints import Constraint

from ppl_models.engine import Coordinates, write_flat


class Block(Protocol):
    """Some parameters as functions of coordinates of their own."""

    @property
    def holders(self) -> Sequence[torch.Tensor]:
        """The tensors that hold the parameters, unconstrained."""
        ...

    @property
    def start(self) -> torch.Tensor:
        """Where the coordinates begin, a vector."""
        ...

    def values(self, part: torch.Tensor) -> Sequence[torch.Tensor]:
        """What each holder has at given coordinates: as many numbers as it holds, in any shape."""
        ...


@dataclass(frozen=True)
class Locations:
    """Locations m + R x of all latents, R a square root of a covariance (dim, dim), or standard deviations (dim,).

    Attributes:
        holders: the tensors that hold them.
        indices: for each holder, which latents of the flat unconstrained vector it holds.
        mean: m, shape (dim,).
        root: R.
    """

    holders: Sequence[torch.Tensor]
    indices: Sequence[torch.Tensor]
    mean: torch.Tensor
    root: torch.Tensor

    @property
    def start(self) -> torch.Tensor:
        """Zero: the mean."""
        return torch.zeros_like(self.mean)

    def values(self, part: torch.Tensor) -> Sequence[torch.Tensor]:
        """The location of each latent."""
        flat = self.mean + (self.root * part if self.root.dim() == 1 else self.root @ part)
        return [flat[index] for index in self.indices]


@dataclass(frozen=True)
class Scales:
    """Positive scales s exp(x), kept unconstrained as their constraint has it.

    Attributes:
        holder: the tensor that holds them.
        constraint: of the scales.
        scale: s, of the holder's shape.
        begin: x at the start.
    """

    holder: torch.Tensor
    constraint: Constraint
    scale: torch.Tensor
    begin: float = 0.0

    @property
    def holders(self) -> Sequence[torch.Tensor]:
        """One tensor."""
        return [self.holder]

    @property
    def start(self) -> torch.Tensor:
        """Zero, for the scales given, or what was asked for."""
        return torch.full_like(self.scale, self.begin).reshape(-1)

    def values(self, part: torch.Tensor) -> Sequence[torch.Tensor]:
        """The unconstrained scales."""
        return [unconstrained(self.constraint, self.scale * part.reshape(self.scale.shape).exp())]


@dataclass(frozen=True)
class Triangle:
    """The covariance factor C T of a dense normal, T triangular with positive diagonal, as Pyro's guide splits it.

    The coordinates are T's logarithms on the diagonal, and its entries below.

    Attributes:
        scale: the tensor that holds the factor's diagonal.
        constraint: of that diagonal.
        tril: the tensor that holds the factor over its diagonal, which is unit triangular here.
        tril_constraint: of that; where it leaves the diagonal free, it stays at one.
        root: C, shape (dim, dim), triangular.
        begin: T's logarithms on the diagonal at the start.
    """

    scale: torch.Tensor
    constraint: Constraint
    tril: torch.Tensor
    tril_constraint: Constraint
    root: torch.Tensor
    begin: float = 0.0

    @property
    def holders(self) -> Sequence[torch.Tensor]:
        """Diagonal and the rest."""
        return [self.scale, self.tril]

    @property
    def start(self) -> torch.Tensor:
        """Zero, for the factor C, or a multiple of it."""
        return (self.begin * torch.eye(len(self.root)).to(self.root)).reshape(-1)

    def values(self, part: torch.Tensor) -> Sequence[torch.Tensor]:
        """Unconstrained diagonal, and the unit triangular factor."""
        square = part.reshape(self.root.shape)
        factor = self.root @ (square.tril(-1) + square.diagonal().exp().diag())
        diagonal = factor.diagonal()
        unit = (factor / diagonal[:, None]).tril(-1) + torch.eye(len(diagonal)).to(factor)
        return [unconstrained(self.constraint, diagonal), unconstrained(self.tril_constraint, unit)]


@dataclass(frozen=True)
class Scaled:
    """Parameters p + u * x of any kind, with a unit u for each.

    Attributes:
        holder: the tensor that holds them, and p.
        center: p.
        unit: u, of the holder's shape.
        identified: whether they come to rest as the optimisation does.
    """

    holder: torch.Tensor
    center: torch.Tensor
    unit: torch.Tensor
    identified: bool = True

    @property
    def holders(self) -> Sequence[torch.Tensor]:
        """One tensor."""
        return [self.holder]

    @property
    def start(self) -> torch.Tensor:
        """Zero: the present values."""
        return torch.zeros_like(self.center).reshape(-1)

    def values(self, part: torch.Tensor) -> Sequence[torch.Tensor]:
        """The parameters."""
        return [self.center + self.unit * part.reshape(self.center.shape)]


def unconstrained(constraint: Constraint, value: torch.Tensor) -> torch.Tensor:
    """What the param store holds for a constrained value."""
    return transform_to(constraint).inv(value)


def joined(blocks: Sequence[Block], dtype: torch.dtype, *, identified: bool = True) -> Coordinates:
    """Coordinates of the whole param store, whose holders take the values of the start.

    Args:
        blocks: each parameter in at most one; parameters in none are their own coordinates.
        dtype: of the flat vector.
        identified: whether the parameters in no block are.
    """
    holders = [holder for _, holder in pyro.get_param_store().named_parameters() if holder.requires_grad]
    covered = {id(holder) for block in blocks for holder in block.holders}
    rest = [Scaled(h, h.detach().clone(), torch.ones_like(h), identified) for h in holders if id(h) not in covered]
    every: list[Block] = [*blocks, *rest]
    starts = [block.start.to(dtype) for block in every]
    ends = torch.tensor([len(start) for start in starts]).cumsum(0).tolist()
    places = [slice(end - len(start), end) for start, end in zip(starts, ends, strict=True)]

    def to_parameters(flat: torch.Tensor) -> torch.Tensor:
        found: dict[int, torch.Tensor] = {}
        for block, place in zip(every, places, strict=True):
            found |= {id(h): v for h, v in zip(block.holders, block.values(flat[place]), strict=True)}
        return torch.cat([found[id(holder)].reshape(-1) for holder in holders])

    start = torch.cat(starts)
    write_flat(to_parameters(start), holders)
    watched = torch.cat(
        [torch.full((len(s),), getattr(block, "identified", True)) for s, block in zip(starts, every, strict=True)]
    )
    return Coordinates(start, to_parameters, watched, [tensor for block in every for tensor in _constants(block)])


def _constants(block: Block) -> list[torch.Tensor]:
    """The tensors that a block is made of, but for those that hold its parameters."""
    held, found = {id(holder) for holder in block.holders}, []
    for entry in fields(block):  # pyright: ignore[reportArgumentType]
        value = getattr(block, entry.name)
        for item in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(item, torch.Tensor) and id(item) not in held:
                found.append(item)
            elif is_dataclass(item):
                found.extend(_constants(item))  # pyright: ignore[reportArgumentType]
    return found
