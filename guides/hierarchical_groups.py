"""The latents of a hierarchical model, grouped by the plates that hold them."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pyro.infer.autoguide.utils import helpful_support_errors
from pyro.ops.tensor_utils import periodic_repeat
from torch.distributions import biject_to

from guides.errors import UnsuitableModelError

GLOBALS = "globals"


@dataclass(frozen=True)
class Axis:
    """A plate around latents: its name, its batch dimension (negative), and its full size."""

    plate: str
    dim: int
    size: int


@dataclass(frozen=True)
class Slot:
    """A latent's place in its group's vector.

    Attributes:
        event_dim: event dims of its constrained value.
        unconstrained_event_dim: event dims of its unconstrained value.
        shape: unconstrained shape of one element; of a global, with the batch axes that it may have.
    """

    event_dim: int
    unconstrained_event_dim: int
    shape: torch.Size


@dataclass(frozen=True)
class Group:
    """Latents in the same plates: one vector per element.

    Attributes:
        key: name, fit for an attribute.
        axes: the plates, leftmost dimension first; none for the globals.
        slots: its latents, by site, in the order of the vector.
        initial: initial unconstrained values, shape (*plates in full, size), each plate at its own dimension.
    """

    key: str
    axes: tuple[Axis, ...]
    slots: Mapping[str, Slot]
    initial: torch.Tensor

    @property
    def plates(self) -> frozenset[str]:
        """The names of its plates."""
        return frozenset(axis.plate for axis in self.axes)

    @property
    def size(self) -> int:
        """How many unconstrained numbers one element has."""
        return self.initial.shape[-1]

    def take(
        self, parameter: torch.Tensor, rows: Mapping[str, torch.Tensor | None], event_dim: int = 1
    ) -> torch.Tensor:
        """A parameter of shape (*plates in full, *event) at some rows, by plate; None for all of them."""
        for axis in self.axes:
            index = rows[axis.plate]
            if index is not None:
                parameter = parameter.index_select(axis.dim - event_dim, index.to(parameter.device))
        return parameter

    def unpack(self, vectors: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        """Each latent's part of vectors of shape (*batch, size), in its own unconstrained shape."""
        start, batch = 0, vectors.shape[:-1]
        for name, slot in self.slots.items():
            part = vectors[..., start : start + slot.shape.numel()]
            start += slot.shape.numel()
            if self.axes:
                yield name, part.reshape(batch + slot.shape)
            else:  # plates of particles stand to the left of the batch axes that a global may have
                yield (
                    name,
                    part.reshape(torch.broadcast_shapes(slot.shape, batch + (1,) * slot.unconstrained_event_dim)),
                )


def groups_of(sites: Mapping[str, Any]) -> dict[str, Group]:
    """Group the latents of a prototype's trace; the globals, if any, come first, and outer plates before inner ones.

    Raises:
        UnsuitableModelError: a latent in a plate has another axis that no plate claims, or a plate has no size.
    """
    by_axes: dict[tuple[Axis, ...], dict[str, Any]] = {}
    for name, site in sites.items():
        by_axes.setdefault(_axes(name, site), {})[name] = site
    found = [_group(axes, members) for axes, members in sorted(by_axes.items(), key=lambda item: len(item[0]))]
    return {group.key: group for group in found}


def _axes(name: str, site: Any) -> tuple[Axis, ...]:
    frames = sorted((frame for frame in site["cond_indep_stack"] if frame.vectorized), key=lambda frame: frame.dim)
    axes = tuple(Axis(frame.name, frame.dim, int(frame.full_size or frame.size)) for frame in frames)
    for axis in axes:
        if axis.size < 0:
            raise UnsuitableModelError(
                f"latent '{name}': its plate '{axis.plate}' has no size, and family 'hierarchical' keeps parameters of "
                f"each of its elements. Give the plate its size: pyro.plate('{axis.plate}', size)."
            )
    return axes


def _group(axes: tuple[Axis, ...], sites: Mapping[str, Any]) -> Group:
    slots, parts = {}, []
    for name, site in sites.items():
        fn, value = site["fn"], site["value"].detach()
        with helpful_support_errors(site):
            unconstrained = biject_to(fn.support).inv(value)
        event_dim = fn.event_dim + unconstrained.dim() - value.dim()
        if not axes:
            slots[name] = Slot(fn.event_dim, event_dim, unconstrained.shape)
            parts.append(unconstrained.reshape(-1))
            continue
        batch = unconstrained.shape[: unconstrained.dim() - event_dim]
        slots[name] = Slot(fn.event_dim, event_dim, unconstrained.shape[len(batch) :])
        _require_claimed(name, batch, axes)
        rank = -axes[0].dim
        vectors = unconstrained.reshape((1,) * (rank - len(batch)) + batch + (-1,))
        for axis in axes:
            vectors = periodic_repeat(vectors, axis.size, axis.dim - 1)
        parts.append(vectors)
    key = re.sub(r"\W", "_", "plate_" + "__".join(axis.plate for axis in axes)) if axes else GLOBALS
    return Group(key, axes, slots, torch.cat(parts, dim=-1).contiguous())


def _require_claimed(name: str, batch: torch.Size, axes: tuple[Axis, ...]) -> None:
    claimed = {axis.dim for axis in axes}
    for dim in range(-len(batch), 0):
        if batch[dim] != 1 and dim not in claimed:
            plates = ", ".join(f"'{axis.plate}'" for axis in axes)
            raise UnsuitableModelError(
                f"latent '{name}': batch shape {tuple(batch)} has an axis that none of its plates ({plates}) claims. "
                "Declare it with .to_event(n), or put the latent into one more plate."
            )
