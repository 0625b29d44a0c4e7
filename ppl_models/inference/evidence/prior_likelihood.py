"""Prior and likelihood of a program as two log densities, of all data together or of each datum."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyro.poutine as poutine
import torch
from pyro.distributions.util import scale_and_mask
from pyro.poutine.trace_struct import Trace
from pyro.poutine.util import site_is_subsample
from torch.distributions import biject_to

from ppl_models.errors import ModelError, OptionError
from ppl_models.inference.evidence.preconditions import improper, improper_message, scaled
from ppl_models.program import Program
from ppl_models.program.handlers import Enumerate, FromUnconstrained
from ppl_models.program.nodes import nodes_of

WHERE = "log_evidence"


@dataclass(frozen=True)
class Split:
    """Where the log densities of a program are cut apart.

    Attributes:
        axes: batch axes that tell the data apart, as negative numbers in order; none for all data together.
        shape: how many data there are along each.
        order: places in the flat vector, those of one datum side by side, shape (datum, dim of one).
    """

    axes: tuple[int, ...]
    shape: torch.Size
    order: torch.Tensor

    @property
    def num_data(self) -> int:
        """How many terms there are: 1 for all data together."""
        return self.shape.numel()


def split_of(program: Program, by_datum: bool) -> Split:
    """Where to cut a program; call it inside `program.isolated()`.

    Args:
        program: the model with its data.
        by_datum: whether to cut along the plates that hold every latent and every observation.

    Raises:
        ModelError: the model has no evidence that these methods could compute: discrete latents that are not summed
            out, a prior that is improper or scaled, a part of the data alone.
        OptionError: `by_datum`, and no plate holds every site.
    """
    trace = _trace_at(program, program.prior_draw())
    _refuse(program, trace)
    everything = torch.arange(program.num_dims, device=program.device)
    if not by_datum:
        return Split((), torch.Size(), everything[None])
    frames = _shared_frames(program, trace)
    axes = tuple(sorted(frames))
    shape = torch.Size(frames[axis] for axis in axes)
    parts = []
    for name, (where, unconstrained_shape) in program.slices.items():
        num_batch = len(program.sites[name].shape) - program.sites[name].event_dim
        places = everything[where].reshape(unconstrained_shape)
        leading = [num_batch + axis for axis in axes]
        parts.append(places.movedim(leading, tuple(range(len(axes)))).reshape(shape.numel(), -1))
    return Split(axes, shape, torch.cat(parts, dim=1))


def prior_and_likelihood(program: Program, split: Split, flat: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Log prior with the log Jacobian, and log likelihood, nats, both of shape (datum,), at one flat point."""
    trace = _trace_at(program, flat)
    prior = _sum(_log_prior(program, name, nodes_of(trace)[name], flat, split) for name in program.slices)
    if program.sites.enumerated:
        likelihood = (program.log_density(flat) - prior.sum()).reshape(1)
        return prior, likelihood
    others = [node for name, node in _scored(trace).items() if name not in program.slices]
    if not others:
        return prior, torch.zeros_like(prior)
    return prior, _sum(_by_datum(_log_prob(node), node, split) for node in others)


def _sum(terms: Iterable[torch.Tensor]) -> torch.Tensor:
    return torch.stack(list(terms)).sum(0)


def _trace_at(program: Program, flat: torch.Tensor) -> Trace:
    model = program.model
    if program.sites.enumerated:
        model = Enumerate(first_available_dim=-1 - program.sites.max_plate_nesting)(model)
    with FromUnconstrained(flat, program.slices):
        return poutine.trace(model).get_trace(*program.arguments.args, **program.arguments.kwargs)


def _scored(trace: Trace) -> dict[str, Any]:
    """The sites that have a density."""
    return {
        name: node
        for name, node in nodes_of(trace).items()
        if node["type"] == "sample" and not site_is_subsample(node) and not node["infer"].get("_deterministic")
    }


def _log_prob(node: Any) -> torch.Tensor:
    log_prob = scale_and_mask(node["fn"].log_prob(node["value"]), scale=node["scale"], mask=node["mask"])
    return log_prob.expand(torch.broadcast_shapes(log_prob.shape, node["fn"].batch_shape))


def _log_prior(program: Program, name: str, node: Any, flat: torch.Tensor, split: Split) -> torch.Tensor:
    where, shape = program.slices[name]
    unconstrained = flat[where].reshape(shape)
    jacobian = biject_to(node["fn"].support).log_abs_det_jacobian(unconstrained, node["value"])
    event_dim = program.sites[name].event_dim
    extra = jacobian.dim() - (len(program.sites[name].shape) - event_dim)
    jacobian = jacobian.sum(list(range(-extra, 0))) if extra > 0 else jacobian
    return _by_datum(_log_prob(node), node, split) + _by_datum(jacobian, node, split)


def _by_datum(values: torch.Tensor, node: Any, split: Split) -> torch.Tensor:
    """A site's terms, summed over all axes but those of the data, shape (datum,)."""
    if not split.axes:
        return values.sum().reshape(1)
    sizes = {frame.dim: frame.size for frame in node["cond_indep_stack"] if frame.vectorized}
    batch = [sizes.get(axis, 1) for axis in range(min(sizes), 0)]
    values = values.expand(torch.broadcast_shapes(values.shape, batch))
    others = [axis for axis in range(-values.dim(), 0) if axis not in split.axes]
    return (values.sum(others) if others else values).reshape(-1)


def _shared_frames(program: Program, trace: Trace) -> Mapping[int, int]:
    """Batch axes and sizes of the plates that hold every site."""
    if program.sites.enumerated:
        raise OptionError(
            f"{WHERE}: by_datum=True, but the model sums out discrete sites, so that its density is one number. Leave "
            "by_datum out, or write a mixture distribution (pyro.distributions.MixtureSameFamily)."
        )
    frames = {
        name: {(frame.name, frame.dim, frame.size) for frame in node["cond_indep_stack"] if frame.vectorized}
        for name, node in _scored(trace).items()
    }
    shared = set.intersection(*frames.values())
    if not shared:
        first = next((name for name, found in frames.items() if not found), next(iter(frames)))
        raise OptionError(
            f"{WHERE}: by_datum=True, but no plate holds every site: '{first}' stands outside of the others' plate. "
            "The evidence is a product over data only where each datum has all latents to itself. Leave by_datum out."
        )
    return {dim: size for _, dim, size in shared}


def _refuse(program: Program, trace: Trace) -> None:
    if program.sites.discrete:
        names = ", ".join(f"'{site.name}'" for site in program.sites.discrete)
        raise ModelError(
            f"site {names}: a discrete latent has no gradient. Sum it out: mark it infer={{'enumerate': 'parallel'}}, "
            "or write a mixture distribution in its place."
        )
    if not program.sites.latent:
        raise ModelError(f"{WHERE}: the model has no continuous latent, so that there is nothing to integrate over.")
    if program.batched or (program.subsampled and program.explicit_subsamples):
        raise ModelError(f"{WHERE}: the model sees a part of the data alone. Give all of them at once.")
    nodes = nodes_of(trace)
    for site in program.sites.latent:
        node = nodes[site.name]
        fault = improper(node) or scaled(node)
        if fault:
            raise ModelError(improper_message(site.name, fault))
        if _log_prob(node).numel() > site.shape[: len(site.shape) - site.event_dim].numel():
            raise ModelError(f"site '{site.name}': it depends on an enumerated site; write a mixture in its place.")
