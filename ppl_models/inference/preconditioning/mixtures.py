"""Coordinates of a mixture of normals: every component has those of a normal, begun at a place of its own."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from guides.mixture import AutoNormalMixture
from ppl_models.inference.preconditioning.blocks import Block, Locations, Scaled, Scales, Triangle
from ppl_models.inference.preconditioning.layout import Latents, cholesky_of, flat_index, held


@dataclass(frozen=True)
class Stacked:
    """Blocks of the same kind, each of which gives one row of the tensors that hold them all.

    The rows may change places, or be equal, where the target needs fewer: they need not come to rest.

    Attributes:
        holders: the tensors that hold the parameters, with a first axis of rows.
        rows: the blocks; their own holders have one row's shapes, and are not written to.
    """

    holders: Sequence[torch.Tensor]
    rows: Sequence[Block]
    identified: bool = False

    @property
    def start(self) -> torch.Tensor:
        """The rows' starts, one after the other."""
        return torch.cat([row.start for row in self.rows])

    def values(self, part: torch.Tensor) -> Sequence[torch.Tensor]:
        """What each holder has, row by row."""
        pieces = part.split([len(row.start) for row in self.rows])
        values = [row.values(piece) for row, piece in zip(self.rows, pieces, strict=True)]
        return [torch.stack([value.reshape(-1) for value in column]) for column in zip(*values, strict=True)]


def mixture(guide: AutoNormalMixture, latents: Latents) -> list[Block]:
    """The components' locations are spread over the normal as its draws would be, around its mean."""
    index = flat_index(guide, latents)
    locs, _ = held(guide, "locs")
    scales, constraint = held(guide, "scales")
    weights, _ = held(guide, "weights")
    blocks: list[Block] = [
        Stacked([locs], [Locations([row], [index], mean, latents.root) for row, mean in _places(locs, latents)]),
        Scaled(weights, weights.detach().clone(), torch.ones_like(weights), identified=False),
    ]
    if "scale_trils" not in guide._pyro_params or latents.tril is None:
        unit = latents.scale if latents.tril is None else latents.conditional_scale
        return [*blocks, Stacked([scales], [Scales(row, constraint, unit[index], latents.begin) for row in scales])]
    trils, tril_constraint = held(guide, "scale_trils")
    root = cholesky_of(latents.tril[index])
    rows = [
        Triangle(scale, constraint, tril, tril_constraint, root, latents.begin)
        for scale, tril in zip(scales, trils, strict=True)
    ]
    return [*blocks, Stacked([scales, trils], rows)]


def _places(locs: torch.Tensor, latents: Latents) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """A row of locations, and where it begins in the program's order; the mean of all is the normal's."""
    noise = np.random.default_rng(0).standard_normal((len(locs), len(latents.mean)))
    offsets = latents.tensor(noise - noise.mean(axis=0))
    away = offsets * latents.root if latents.root.dim() == 1 else offsets @ latents.root.mT
    return list(zip(locs, latents.mean + away, strict=True))
