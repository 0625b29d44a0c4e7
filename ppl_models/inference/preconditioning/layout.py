"""Where an automatic guide keeps its parameters, and a normal approximation of the target beside them."""

import math
from collections.abc import Iterator
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from pyro.infer.autoguide import AutoContinuous, AutoDelta, AutoGuide
from pyro.nn import PyroModule
from torch.distributions import biject_to, constraints, transform_to
from torch.distributions.constraints import Constraint

from guides.hierarchical import AutoHierarchical
from guides.mixture import AutoNormalMixture
from guides.particles import AutoParticles
from ppl_models.inference.preconditioning.blocks import Locations
from ppl_models.inference.preconditioning.pilot import Normal
from ppl_models.program import Program


class UnknownLayoutError(Exception):
    """The guide's parameters are not laid out as its family's usually are."""


class Latents:
    """The normal approximation as tensors, and where each latent stands in the flat vector."""

    def __init__(self, program: Program, normal: Normal, shrink: float):
        self.program, self.normal, self.begin = program, normal, math.log(shrink)
        self.tril = self.tensor(normal.scale_tril) if normal.root.ndim == 2 else None
        self.root = self.tensor(normal.root) if self.tril is None else self.tril

    def tensor(self, values: np.ndarray) -> torch.Tensor:
        """Numbers in the program's dtype, on its device."""
        return torch.as_tensor(values, dtype=self.program.dtype, device=self.program.device)

    def index(self, name: str) -> torch.Tensor:
        """Where a site stands."""
        place, _ = self.program.slices[name]
        return torch.arange(place.start, place.stop)

    @property
    def mean(self) -> torch.Tensor:
        """The normal's mean."""
        return self.tensor(self.normal.mean)

    @property
    def scale(self) -> torch.Tensor:
        """Its standard deviations."""
        return self.tensor(self.normal.scale)

    @property
    def conditional_scale(self) -> torch.Tensor:
        """Those of each latent given all others."""
        return self.tensor(self.normal.conditional_scale)


def locations(guide: AutoGuide, program: Program) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Each tensor of locations, and which latents it holds; for a mixture, or particles, the mean of theirs."""
    slices = program.slices
    index = {name: torch.arange(place.start, place.stop) for name, (place, _) in slices.items()}
    if isinstance(guide, AutoContinuous):  # a site may be called `loc` in others
        names = list(guide._unconstrained_shapes)
        if set(names) != set(index):
            raise UnknownLayoutError
        if isinstance(guide, AutoNormalMixture):
            holder = held(guide, "locs")[0].detach().mean(dim=0)
        elif isinstance(guide, AutoParticles):
            holder = held(guide, "particles")[0].detach().mean(dim=0)
        else:
            holder, _ = held(guide, "loc")
        yield holder, torch.cat([index[name] for name in names])
        return
    if isinstance(guide, AutoHierarchical):
        for key, where in element_indices(guide, program).items():
            yield held(guide.parts, f"{key}.loc")[0], where.reshape(-1)
        return
    for name in index:
        if isinstance(guide, AutoDelta):
            holder, constraint = held(guide, name)
            trace: Any = guide.prototype_trace
            support = trace.nodes[name]["fn"].support
            if type(transform_to(constraint)) is not type(biject_to(support)):
                raise UnknownLayoutError
        else:
            holder, _ = held(guide.locs, name)
        if holder.numel() != len(index[name]):
            raise UnknownLayoutError
        yield holder, index[name]


def element_indices(guide: AutoHierarchical, program: Program) -> dict[str, torch.Tensor]:
    """Which latents each group of a hierarchical guide holds: by group, of the shape of its locations."""
    names = [name for group in guide.groups.values() for name in group.slots]
    plates = {name for group in guide.groups.values() for name in group.plates}
    if set(names) != set(program.slices) or plates & program.explicit_subsamples:  # their rows may be any
        raise UnknownLayoutError
    found = {}
    for key, group in guide.groups.items():
        lead = group.initial.shape[:-1]
        parts = []
        for name, slot in group.slots.items():
            place, shape = program.slices[name]
            numbers = torch.arange(place.start, place.stop).reshape(shape)
            batch = shape[: len(shape) - slot.unconstrained_event_dim] if group.axes else torch.Size()
            wanted = torch.Size((1,) * (len(lead) - len(batch))) + batch
            if wanted != lead:
                raise UnknownLayoutError
            parts.append(numbers.reshape(*lead, -1))
        found[key] = torch.cat(parts, dim=-1)
    return found


def held(module: PyroModule, name: str) -> tuple[torch.Tensor, Constraint]:
    """The unconstrained tensor behind a (dotted) attribute, and its constraint."""
    *path, last = name.split(".")
    try:
        owner = attrgetter(".".join(path))(module) if path else module
    except AttributeError:
        raise UnknownLayoutError from None
    constrained = getattr(owner, "_pyro_params", {}).get(last)
    if constrained is not None:
        last = last + "_unconstrained"
    found = owner._parameters.get(last)
    if found is None:
        raise UnknownLayoutError
    return found, constrained[0] if constrained is not None else constraints.real


def location_block(guide: AutoGuide, latents: Latents, *, dense: bool = True) -> Locations:
    """All locations, in units of the normal, or each latent in its own standard deviation."""
    holders, indices = zip(*locations(guide, latents.program), strict=True)
    return Locations(holders, indices, latents.mean, latents.root if dense else latents.scale)


def flat_index(guide: AutoGuide, latents: Latents) -> torch.Tensor:
    """Which latents a guide's one vector holds, in its order."""
    ((_, index),) = locations(guide, latents.program)
    return index


def cholesky_of(root: torch.Tensor) -> torch.Tensor:
    """The Cholesky factor of root @ rootᵀ, shape (*batch, dim, dim)."""
    # By rotation, which a nearly singular covariance does not upset.
    upper = torch.linalg.qr(root.mT, mode="r").R
    signs = torch.where(upper.diagonal(dim1=-2, dim2=-1) < 0.0, -1.0, 1.0)
    return (upper * signs[..., None]).mT.contiguous()
