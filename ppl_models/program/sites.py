"""What a model's trace says about its sites: names, shapes, supports and dims."""

from dataclasses import dataclass

import torch
from pyro.poutine.trace_struct import Trace
from pyro.poutine.util import site_is_factor, site_is_subsample
from torch.distributions import biject_to, constraints

from ppl_models.errors import ModelError
from ppl_models.program.nodes import nodes_of


@dataclass(frozen=True)
class Site:
    """One sample site of a model.

    Attributes:
        shape: shape of the value, plates first, then event dims.
        event_dim: how many of the last axes are event dims.
        support: constraint of the value at the first run.
        plates: name of the plate at each batch axis, None where no plate claims it.
        unconstrained_shape: shape of the latent's unconstrained value; None for other sites.
    """

    name: str
    shape: torch.Size
    event_dim: int
    support: constraints.Constraint
    plates: tuple[str | None, ...]
    unconstrained_shape: torch.Size | None = None

    def dims(self, given: tuple[str, ...] | None = None) -> tuple[str, ...]:
        """A name for every axis: the ones given, else plates by name and other axes numbered.

        Raises:
            ModelError: the names given are not as many as the axes.
        """
        if given is not None:
            if len(given) != len(self.shape):
                raise ModelError(
                    f"dims of '{self.name}': found {tuple(given)}, wanted {len(self.shape)} names for shape "
                    f"{tuple(self.shape)}."
                )
            return tuple(given)
        return tuple(
            (self.plates[axis] if axis < len(self.plates) else None) or f"{self.name}_dim_{axis}"
            for axis in range(len(self.shape))
        )


@dataclass(frozen=True)
class Sites:
    """The sites of a model by their part in it."""

    latent: tuple[Site, ...]
    enumerated: tuple[Site, ...]
    discrete: tuple[Site, ...]
    observed: tuple[Site, ...]
    deterministic: tuple[Site, ...]
    plate_sizes: dict[str, int]
    max_plate_nesting: int

    def __getitem__(self, name: str) -> Site:
        """The site of that name."""
        every = self.latent + self.enumerated + self.discrete + self.observed + self.deterministic
        return next(site for site in every if site.name == name)


def read_sites(trace: Trace) -> Sites:
    """Sort the sites of a model's trace.

    Raises:
        ModelError: the model has no latent site, or a latent support has no bijection to the reals.
    """
    found: dict[str, list[Site]] = {k: [] for k in ("latent", "enumerated", "discrete", "observed", "deterministic")}
    plate_sizes: dict[str, int] = {}
    nesting = 0
    for name, node in nodes_of(trace).items():
        if node["type"] != "sample" or site_is_subsample(node) or site_is_factor(node):
            continue
        for frame in node["cond_indep_stack"]:
            if frame.vectorized:
                plate_sizes[frame.name] = int(frame.full_size or frame.size)
                nesting = max(nesting, -frame.dim)
        part = _part(node)
        found[part].append(_site(name, node, part))
    if not (found["latent"] or found["discrete"] or found["enumerated"]):
        raise ModelError(
            "the model has no latent site: every pyro.sample is observed. Leave at least one without obs=, "
            "or check that data meant as obs are not passed for a parameter."
        )
    return Sites(
        **{part: tuple(sites) for part, sites in found.items()}, plate_sizes=plate_sizes, max_plate_nesting=nesting
    )


def _part(node) -> str:
    if node["infer"].get("_deterministic"):
        return "deterministic"
    if node["is_observed"]:
        return "observed"
    if getattr(node["fn"].support, "is_discrete", False):
        return "enumerated" if node["infer"].get("enumerate") == "parallel" else "discrete"
    return "latent"


def _site(name: str, node, part: str) -> Site:
    fn, shape = node["fn"], torch.Size(node["value"].shape)
    if part == "observed":
        # One value may stand for all elements of a plate.
        shape = torch.broadcast_shapes(shape, fn.shape())
    # pyro.deterministic calls every axis an event dim by default, also inside plates.
    event_dim = 0 if part == "deterministic" and fn.event_dim >= len(shape) else int(fn.event_dim)
    num_batch = len(shape) - event_dim
    plates: list[str | None] = [None] * num_batch
    for frame in node["cond_indep_stack"]:
        if frame.vectorized and -frame.dim <= num_batch and shape[num_batch + frame.dim] == frame.size:
            plates[num_batch + frame.dim] = frame.name
    unconstrained_shape = _unconstrained_shape(name, fn.support, shape) if part == "latent" else None
    return Site(name, shape, event_dim, fn.support, tuple(plates), unconstrained_shape)


def _unconstrained_shape(name: str, support: constraints.Constraint, shape: torch.Size) -> torch.Size:
    try:
        return torch.Size(biject_to(support).inverse_shape(shape))
    except NotImplementedError:
        raise ModelError(
            f"site '{name}': its support {support} has no bijection to the reals. Reparameterise it, for instance as "
            "a transform of sites with simple supports."
        ) from None
