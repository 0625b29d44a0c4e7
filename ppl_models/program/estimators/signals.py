"""The learning signal of a draw and the score of its discrete sites, one of each for a datum where its latents are."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import torch
from pyro.distributions.util import scale_and_mask
from pyro.poutine.trace_struct import Trace

from ppl_models.errors import OptionError
from ppl_models.program.estimators.drawing import Target, is_enumerated, latents_of, model_trace, objective, own_part
from ppl_models.program.estimators.expected import Expected
from ppl_models.program.estimators.weights import axes_of, by_datum, scale_of, shared_frames
from ppl_models.program.nodes import nodes_of, sites_of


@dataclass(frozen=True)
class Signal:
    """What the score function needs of one draw.

    Attributes:
        value: log p - log q in nats, or the function of a free expectation: one for each element of the plates that
            hold every site, unscaled; of shape () where there are none.
        score: log density in nats of the sites without rsample, of the same shape, never scaled.
        scale: what each element stands for: plate size over subsample size.
        own: log density in nats of the sites without rsample as it counts in `value`.
        inputs: what is observed of each element, of the shape of `value` and a last axis; None where there is none, or
            nobody asked.
        axes: where those plates stand in batch shapes, counted from the right.
    """

    value: torch.Tensor
    score: torch.Tensor
    scale: torch.Tensor
    own: torch.Tensor
    inputs: torch.Tensor | None = None
    axes: tuple[int, ...] = ()

    @property
    def without_score(self) -> torch.Tensor:
        """The value, its gradient without the own one of -log q at these sites: that has mean zero, and only noise."""
        return self.value + (self.own - self.own.detach())


def signal_of(target: Target, trace: Trace, *, with_inputs: bool = False) -> Signal:
    """The signal of a draw of the guide.

    Elements of the plates that hold every site are independent, so that the signal of one is all that its own score
    needs. Elsewhere one signal concerns all sites, scaled as a subsample of the data wants it; their score is not
    scaled, for it is that of the draws made.
    """
    blocked = score_sites(trace)
    if isinstance(target, Expected) or is_enumerated(target):
        return _joint(target, objective(target, trace), trace, blocked)
    model = model_trace(target, trace)
    axes = shared_axes(trace, model)
    if axes is None:
        return _joint(target, torch.as_tensor(model.log_prob_sum() - trace.log_prob_sum()), trace, blocked)
    found = _by_element(trace, model, axes, blocked)
    return replace(found, inputs=_inputs(model, axes, found.value)) if with_inputs else found


def shared_axes(guide_trace: Trace, model: Trace) -> list[int] | None:
    """The axes of the plates that hold every site of guide and model; None where there are none, or several scales."""
    frames = shared_frames([*sites_of(guide_trace).values(), *sites_of(model).values()])
    if not frames:
        return None
    try:
        scale_of(guide_trace, model)
    except OptionError:
        return None
    return axes_of(frames)


def score_sites(trace: Trace) -> frozenset[str]:
    """The sites of a guide whose draws have no path."""
    return frozenset(name for name, node in latents_of(trace).items() if not node["fn"].has_rsample)


def unscaled(trace: Trace, names: Collection[str], like: torch.Tensor) -> torch.Tensor:
    """Log density in nats of some sites, without the scale of a subsample."""
    total = torch.zeros_like(like)
    for name in names:
        node: Any = nodes_of(trace)[name]
        if isinstance(node["scale"], (int, float)) and node["scale"] == 1 and "log_prob_sum" in node:
            total = total + node["log_prob_sum"]  # computed already
            continue
        total = total + torch.as_tensor(scale_and_mask(node["fn"].log_prob(node["value"]), mask=node["mask"])).sum()
    return total


def _joint(target: Target, value: torch.Tensor, trace: Trace, blocked: Collection[str]) -> Signal:
    like = value.detach()
    own = own_part(target, trace, blocked) + torch.zeros_like(like)
    return Signal(value, unscaled(trace, blocked, like), torch.ones_like(like), own)


def _by_element(trace: Trace, model: Trace, axes: list[int], blocked: Collection[str]) -> Signal:
    value: Any = 0.0
    for sign, sites in ((1.0, sites_of(model)), (-1.0, sites_of(trace))):
        for node in sites.values():
            value = value + sign * by_datum(node, axes)
    score = torch.zeros_like(value)
    for name in blocked:
        score = score + by_datum(nodes_of(trace)[name], axes)
    scale = torch.as_tensor(scale_of(trace, model), dtype=value.dtype)
    return Signal(value, score, scale, score, axes=tuple(axes))


def _inputs(model: Trace, axes: list[int], value: torch.Tensor) -> torch.Tensor | None:
    parts = []
    for node in sites_of(model).values():
        if not node["is_observed"]:
            continue
        observed, fn = node["value"], node["fn"]
        shape = torch.broadcast_shapes(observed.shape, fn.batch_shape + fn.event_shape)
        moved = (
            observed.to(value.dtype)
            .expand(shape)
            .movedim(tuple(axis - fn.event_dim for axis in axes), tuple(range(len(axes))))
        )
        parts.append(moved.reshape(*value.shape, -1))
    return torch.cat(parts, dim=-1).detach() if parts else None
