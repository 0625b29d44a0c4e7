"""Coordinates of normals in blocks: of a dense one without idle numbers, and of the hierarchical family's."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.distributions.constraints import Constraint

from guides.dais import AutoAnnealed
from guides.hierarchical import AutoHierarchical
from guides.hierarchical_groups import Group
from ppl_models.inference.preconditioning.blocks import Block, Scales, unconstrained
from ppl_models.inference.preconditioning.layout import (
    Latents,
    cholesky_of,
    element_indices,
    flat_index,
    held,
    location_block,
)


@dataclass(frozen=True)
class Elements:
    """Factors L T and slopes A + L X of normals u = loc + A e + L e', one for each element of a plate.

    The coordinates are, for each element, T's logarithms on the diagonal, its entries below, and X: in units of the
    normal that is left when e is known.

    Attributes:
        scale: the tensor that holds the factors' diagonals, shape (*plate, dim), with its constraint.
        tril: the tensor that holds the factors over their diagonals, shape (*plate, dim, dim), with its constraint;
            None where dim is one.
        slopes: the tensors that hold the slopes, each of shape (*plate, dim, above).
        root: L, shape (*plate, dim, dim), lower triangular.
        slope: A, shape (*plate, dim, all above); the slopes one beside the other.
        begin: T's logarithms on the diagonal at the start.
    """

    scale: tuple[torch.Tensor, Constraint]
    tril: tuple[torch.Tensor, Constraint] | None
    slopes: Sequence[torch.Tensor]
    root: torch.Tensor
    slope: torch.Tensor
    begin: float = 0.0

    @property
    def holders(self) -> Sequence[torch.Tensor]:
        """Diagonals, the rest of the factors, slopes."""
        return [self.scale[0], *([] if self.tril is None else [self.tril[0]]), *self.slopes]

    @property
    def start(self) -> torch.Tensor:
        """Zero, for the factors given, or a multiple of them."""
        plate, dim, above = self.root.shape[:-2], self.root.shape[-1], self.slope.shape[-1]
        start = self.root.new_zeros(*plate, dim + dim * (dim - 1) // 2 + dim * above)
        start[..., :dim] = self.begin
        return start.reshape(-1)

    def values(self, part: torch.Tensor) -> Sequence[torch.Tensor]:
        """Unconstrained diagonals, unit triangular factors, and slopes."""
        plate, dim, above = self.root.shape[:-2], self.root.shape[-1], self.slope.shape[-1]
        sizes = [dim, dim * (dim - 1) // 2, dim * above]
        diagonal, below, moves = part.reshape(*plate, sum(sizes)).split(sizes, dim=-1)
        row, column = torch.tril_indices(dim, dim, -1).unbind()
        place = torch.zeros(len(row), dim, dim).to(part)
        place[torch.arange(len(row)), row, column] = 1.0
        inner = torch.diag_embed(diagonal.exp()) + torch.einsum("...k,kij->...ij", below, place)
        factor = self.root @ inner
        scale = factor.diagonal(dim1=-2, dim2=-1)
        found = [unconstrained(self.scale[1], scale)]
        if self.tril is not None:
            unit = (factor / scale[..., None]).tril(-1) + torch.eye(dim).to(factor)
            found.append(unconstrained(self.tril[1], unit))
        slope = self.slope + self.root @ moves.reshape(*plate, dim, above)
        return [*found, *slope.split([holder.shape[-1] for holder in self.slopes], dim=-1)]


def hierarchical(guide: AutoHierarchical, latents: Latents) -> list[Block]:
    """Locations at the mean; each element's normal, given what is above it, as the approximation has it."""
    index = element_indices(guide, latents.program)
    blocks: list[Block] = [location_block(guide, latents)]
    for key, group in guide.groups.items():
        scale = held(guide.parts, f"{key}.scale")
        tril = held(guide.parts, f"{key}.scale_tril") if guide.is_dense(group) else None
        above = list(guide.above(group))
        slopes = [held(guide.parts, f"{key}.on_{other.key}")[0] for other in above]
        if tril is None and not slopes:
            blocks.append(Scales(*scale, latents.conditional_scale[index[key]], latents.begin))
            continue
        root, slope = _conditional(group, above, index, latents, keeps_factor=tril is not None or group.size == 1)
        blocks.append(Elements(scale, tril, slopes, root, slope, latents.begin))
    return blocks


def _conditional(
    group: Group, above: Sequence[Group], index: dict[str, torch.Tensor], latents: Latents, *, keeps_factor: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Factor and slopes of each element's normal given the standard noise of what is above it."""
    own = index[group.key]
    higher = [index[other.key].expand(*own.shape[:-1], other.size) for other in above]
    num_above = sum(other.size for other in above)
    if latents.tril is None:
        return torch.diag_embed(latents.scale[own]), latents.scale.new_zeros(*own.shape, num_above)
    factor = cholesky_of(latents.tril[torch.cat([*higher, own], dim=-1)])[..., num_above:, :]
    slope, root = factor[..., :num_above].contiguous(), factor[..., num_above:].contiguous()
    return (root if keeps_factor else torch.diag_embed(latents.conditional_scale[own])), slope


def annealed(guide: AutoAnnealed, latents: Latents) -> list[Block]:
    """The base where the approximation is; steps and schedule as they are."""
    index = flat_index(guide, latents)
    scale = held(guide, "scale")
    if latents.tril is None or not hasattr(guide, "scale_tril"):
        return [location_block(guide, latents, dense=False), Scales(*scale, latents.scale[index], latents.begin)]
    root = cholesky_of(latents.tril[index])
    none = root.new_zeros(len(index), 0)
    return [location_block(guide, latents), Elements(scale, held(guide, "scale_tril"), [], root, none, latents.begin)]
