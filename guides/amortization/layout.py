"""Which latents a model has for each row of its data, and what shape they have: found by one look at the model."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pyro.infer.autoguide.utils import helpful_support_errors
from pyro.poutine.util import site_is_subsample
from torch.distributions import biject_to, constraints
from torch.distributions.constraints import Constraint

from guides.enumeration import is_enumerated
from guides.errors import FamilyOptionError, UnsuitableModelError
from guides.hierarchical_groups import Axis
from guides.supports import fixed_support

EXAMPLE = "with pyro.plate('datum', len(x)): z = pyro.sample('z', ...); pyro.sample('x', ..., obs=x)"


@dataclass(frozen=True)
class Local:
    """A latent that every row has for itself.

    Attributes:
        name: the model's site.
        event_dim: event dims of its constrained value.
        shape: unconstrained event shape.
        support: its support where that is fixed; None where a run of the model has to tell.
        inner: plates inside the data plate that hold it, leftmost dimension first.
        batch: sizes of the batch axes to the right of the data plate's.
    """

    name: str
    event_dim: int
    shape: torch.Size
    support: Constraint | None
    inner: tuple[Axis, ...]
    batch: torch.Size

    @property
    def size(self) -> int:
        """How many unconstrained numbers one row has."""
        return self.batch.numel() * self.shape.numel()

    @property
    def is_real(self) -> bool:
        """Whether every number is allowed, so that values are unconstrained as they are."""
        support = self.support
        while isinstance(support, constraints.independent):
            support = support.base_constraint
        return support is constraints.real

    def vectors(self, unconstrained: torch.Tensor) -> torch.Tensor:
        """Values of shape (..., row, *batch, *shape) as one vector per row, (..., row, 1 for each of batch, size)."""
        lead = unconstrained.shape[: unconstrained.dim() - len(self.batch) - len(self.shape)]
        return unconstrained.reshape(*lead, *(1,) * len(self.batch), self.size)


@dataclass(frozen=True)
class Layout:
    """The data plate of a model and its latents.

    Attributes:
        plate: name of the data plate.
        dim: its batch dimension, negative.
        locals: the latents inside it, in the model's order.
        others: names of the continuous latents outside of it.
        observed: the observed sites inside it, by name, with their event dims.
    """

    plate: str
    dim: int
    locals: tuple[Local, ...]
    others: tuple[str, ...]
    observed: Mapping[str, int]

    def ordered(self, order: Sequence[str] | None) -> "tuple[Local, ...]":
        """The local latents in the model's order, or in another one.

        Raises:
            FamilyOptionError: the order lacks one of them, or has others.
        """
        if order is None:
            return self.locals
        by_name = {local.name: local for local in self.locals}
        if sorted(order) != sorted(by_name):
            raise FamilyOptionError(
                f"amortized: order has {', '.join(map(repr, order)) or 'none'}, wanted each local latent once: "
                f"{', '.join(map(repr, by_name))}."
            )
        return tuple(by_name[name] for name in order)


def find_layout(nodes: Mapping[str, Any], plate: str | None = None) -> Layout:
    """Find the data plate in a trace of the model, and what it holds.

    It is the outermost plate that holds observed sites and latents.

    Args:
        nodes: of the trace.
        plate: the plate's name, where there are several.

    Raises:
        UnsuitableModelError: there is no such plate, or it holds latents that an amortised guide cannot serve.
    """
    sites = {name: node for name, node in nodes.items() if _is_site(node)}
    latents = {n: node for n, node in sites.items() if not node["is_observed"] and not is_enumerated(node)}
    observed = {name: node for name, node in sites.items() if node["is_observed"]}
    name = _data_plate(latents, observed, plate)
    dim = next(f.dim for node in latents.values() for f in _frames(node) if f.name == name)
    inside = {n: node for n, node in latents.items() if name in _plates(node)}
    return Layout(
        plate=name,
        dim=dim,
        locals=tuple(_local(n, node, name, dim) for n, node in inside.items()),
        others=tuple(n for n in latents if n not in inside),
        observed={n: node["fn"].event_dim for n, node in observed.items() if name in _plates(node)},
    )


def _data_plate(latents: Mapping[str, Any], observed: Mapping[str, Any], wanted: str | None) -> str:
    with_latents = {f.name: f.dim for node in latents.values() for f in _frames(node)}
    with_data = {f.name: f.dim for node in observed.values() for f in _frames(node)}
    both = {name: dim for name, dim in with_latents.items() if name in with_data}
    if wanted is not None and wanted not in both:
        raise UnsuitableModelError(
            f"amortized: plate {wanted!r} does not hold both latents and observed sites; those that do: "
            f"{_listed(both)}. Name one of them, or leave plate out."
        )
    if wanted is not None:
        return wanted
    if not both:
        raise UnsuitableModelError(_no_data_plate(latents, observed, with_latents, with_data))
    return min(both, key=lambda name: both[name])


def _no_data_plate(latents: Any, observed: Any, with_latents: Any, with_data: Any) -> str:
    if not observed:
        return (
            "amortized: the model observes nothing when it is called so, and q(z | x) needs the x. Call the guide with "
            "the data."
        )
    if with_data:
        return (
            f"amortized: the model has no local latent: none of its latents ({_listed(latents)}) lies in a plate "
            f"around observed sites ({_listed(with_data)}). Sample what belongs to a row inside the plate over the "
            f"rows ({EXAMPLE}), or take an automatic guide (guides.make('normal', model))."
        )
    return (
        f"amortized: the model has no data plate: its observed sites ({_listed(observed)}) lie in no plate; plates "
        f"with latents: {_listed(with_latents)}. Put what belongs to one row into a plate over the rows: {EXAMPLE}."
    )


def _local(name: str, node: Any, plate: str, dim: int) -> Local:
    inner = []
    for frame in sorted(_frames(node), key=lambda frame: frame.dim):
        if frame.name == plate:
            continue
        if frame.dim < dim:
            raise UnsuitableModelError(
                f"amortized: latent '{name}' lies in plate '{frame.name}', which stands to the left of the data plate "
                f"'{plate}', so that its rows are not those of one table. Name the outer plate (plate="
                f"{frame.name!r}) if its elements are the rows, or write the guide by hand."
            )
        if frame.size != (frame.full_size or frame.size):
            raise UnsuitableModelError(
                f"amortized: latent '{name}' lies in plate '{frame.name}' inside the data plate, which holds a "
                "subsample. Take the whole plate there, or write the guide by hand."
            )
        inner.append(Axis(frame.name, frame.dim, int(frame.size)))
    fn, value = node["fn"], node["value"].detach()
    if fn.support.is_discrete:
        raise UnsuitableModelError(
            f"amortized: latent '{name}' is discrete. Sum it out (infer={{'enumerate': 'parallel'}} in the model, and "
            "TraceEnum_ELBO), or write the guide by hand."
        )
    with helpful_support_errors(node):
        unconstrained = biject_to(fn.support).inv(value)
    event_dim = fn.event_dim + unconstrained.dim() - value.dim()
    shape = unconstrained.shape[unconstrained.dim() - event_dim :]
    batch = unconstrained.shape[: unconstrained.dim() - event_dim]
    _require_claimed(name, batch, plate, {dim, *(i.dim for i in inner)})
    right = torch.Size(batch[len(batch) + dim + 1 :]) if -dim > 1 else torch.Size()
    return Local(name, fn.event_dim, shape, fixed_support(fn.support), tuple(inner), right)


def _require_claimed(name: str, batch: torch.Size, plate: str, claimed: Collection[int]) -> None:
    for dim in range(-len(batch), 0):
        if batch[dim] != 1 and dim not in claimed:
            raise UnsuitableModelError(
                f"amortized: latent '{name}' has batch shape {tuple(batch)}, with an axis that no plate claims (data "
                f"plate: '{plate}'). Declare it with .to_event(n)."
            )


def _is_site(node: Any) -> bool:
    return node["type"] == "sample" and not site_is_subsample(node)


def _frames(node: Any) -> list[Any]:
    return [frame for frame in node["cond_indep_stack"] if frame.vectorized]


def _plates(node: Any) -> set[str]:
    return {frame.name for frame in _frames(node)}


def _listed(names: Collection[str]) -> str:
    return ", ".join(f"'{name}'" for name in names) or "none"
