"""The two halves of the ELBO at one draw: the reconstruction, and the divergence of each local latent unit by unit."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pyro.poutine.trace_struct import Trace
from torch.distributions import Independent, kl_divergence

from ppl_models.program.estimators.drawing import Target, draw, model_trace
from ppl_models.program.nodes import is_point, sites_of


@dataclass(frozen=True)
class Parts:
    """The terms of the ELBO at one draw, in nats over all the data that the rows stand for.

    ELBO = reconstruction - others - sum of divergence.

    Attributes:
        reconstruction: log density of the observations, shape ().
        others: divergence of the latents outside of the plate, shape ().
        divergence: of the latents inside the plate, summed over rows, one for each unit, shape (unit,): for each
            element of a latent whose elements are independent in prior and guide, else for the latent as a whole.
        rows: how many rows each unit's divergence counts, shape (unit,).
        labels: names of the units.
        deviations: by latent inside the plate, gives the guide's mean less the prior's in standard deviations of the
            prior, shape of the latent, NaN where there are none; None instead where one of the two knows no moments.
    """

    reconstruction: torch.Tensor
    others: torch.Tensor
    divergence: torch.Tensor
    rows: torch.Tensor
    labels: tuple[str, ...]
    deviations: Mapping[str, Callable[[], torch.Tensor | None]]


def parts_of(target: Target, guide: Callable[..., Any], plate: str | None = None) -> Parts:
    """The terms at one draw of the guide, in the caller's Pyro state.

    A unit's divergence is in closed form where its two distributions have one and the guide draws the latent behind all
    that come before it in the model; else it is log q - log p at the draw.

    Args:
        target: the model with its arguments.
        guide: the guide.
        plate: whose latents are local; None takes the plates that hold all observations and some latent, and every
            latent as local where no plate holds all observations.
    """
    guide_trace = draw(target, guide)
    return parts_of_traces(guide_trace, model_trace(target, guide_trace), plate)


def parts_of_traces(guide_trace: Trace, trace: Trace, plate: str | None = None) -> Parts:
    """The same, of a guide's draw and the model's trace at it."""
    model, drawn = sites_of(trace), sites_of(guide_trace)
    shared = {plate} if plate is not None else _plates_of_observations(model)
    found = _Sums(next(iter(model.values()))["value"])
    latents = [name for name, node in model.items() if not node["is_observed"]]
    paired = {
        name
        for name in latents
        if name in drawn
        and _inside(model[name], shared)
        and _inside(drawn[name], shared)
        and not is_point(drawn[name]["fn"])
    }
    for name in latents:
        if name in paired:
            known = _follows_parents(name, latents, drawn)
            found.add_pair(name, drawn[name], model[name], closed_form=known)
        else:
            found.add_divergence(name, model[name], -1.0, _inside(model[name], shared))
    for name, node in drawn.items():
        if name not in paired:
            found.add_divergence(name, node, 1.0, _inside(node, shared))
    for node in model.values():
        if node["is_observed"]:
            found.reconstruction = found.reconstruction + _total(node, _log_prob(node), 0)[0].sum()
    return found.parts()


class _Sums:
    """Terms as they come."""

    def __init__(self, like: torch.Tensor):
        zero = torch.zeros((), device=like.device)
        self.reconstruction, self.others, self.rest = zero, zero, None
        self.rest_rows = zero
        self.units: list[torch.Tensor] = []
        self.rows: list[torch.Tensor] = []
        self.labels: list[str] = []
        self.deviations: dict[str, Callable[[], torch.Tensor | None]] = {}

    def add_pair(self, name: str, ours: Any, theirs: Any, *, closed_form: bool) -> None:
        """A latent that guide and model have under one name, unit by unit where its elements are independent."""
        (base, depth), (prior, prior_depth) = _elementwise(ours["fn"]), _elementwise(theirs["fn"])
        if base is None or prior is None or depth != prior_depth:
            base, prior, depth = ours["fn"], theirs["fn"], 0
        values = _closed_form(base, prior) if closed_form else None
        if values is None:
            values = base.log_prob(ours["value"]) - prior.log_prob(ours["value"])
        total, rows = _total(ours, values, depth)
        self.units.append(total)
        self.rows.append(rows.expand(total.shape))
        self.labels += [name] if total.numel() == 1 and not depth else [f"{name}[{i}]" for i in range(total.numel())]
        self.deviations[name] = lambda: _deviation(ours, theirs["fn"])

    def add_divergence(self, name: str, node: Any, sign: float, inside: bool) -> None:
        """A term of a latent that stands alone: of all of them together, or outside of the plate."""
        total, rows = _total(node, sign * _log_prob(node), 0)
        if not inside:
            self.others = self.others + total.sum()
            return
        self.rest = total if self.rest is None else self.rest + total
        self.rest_rows = torch.maximum(self.rest_rows.to(rows), rows)
        if not is_point(node["fn"]) or sign < 0.0:
            self.deviations.setdefault(name, lambda: None)

    def parts(self) -> Parts:
        """All of them."""
        if self.rest is not None:
            self.units.append(self.rest)
            self.rows.append(self.rest_rows.reshape(1))
            self.labels.append("others")
        empty = torch.zeros(0, dtype=self.reconstruction.dtype, device=self.reconstruction.device)
        return Parts(
            self.reconstruction,
            self.others,
            torch.cat(self.units) if self.units else empty,
            torch.cat(self.rows) if self.rows else empty,
            tuple(self.labels),
            self.deviations,
        )


def _total(node: Any, values: torch.Tensor, depth: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Terms scaled, masked and summed over the batch, one for each element of the event; and how many rows count."""
    event = values.shape[values.dim() - depth :]
    sizes = {frame.dim: frame.size for frame in node["cond_indep_stack"] if frame.vectorized}
    plates = [sizes.get(axis, 1) for axis in range(min(sizes, default=0), 0)]
    batch = torch.broadcast_shapes(values.shape[: values.dim() - depth], node["fn"].batch_shape, plates)
    values = values.expand((*batch, *event)).reshape((*batch, -1))
    weight: Any = node["scale"]
    if not isinstance(weight, torch.Tensor):
        weight = torch.full((), float(weight), dtype=values.dtype, device=values.device)
    weight = weight.expand(batch)[..., None]
    mask = node["mask"]
    if mask is not None:
        kept = torch.as_tensor(mask, device=values.device).expand(batch)[..., None]
        values, weight = torch.where(kept, values, 0.0), torch.where(kept, weight, 0.0)
    axes = list(range(len(batch)))
    if not axes:
        return (weight * values), weight
    return (weight * values).sum(axes), weight.sum(axes)


def _log_prob(node: Any) -> torch.Tensor:
    return node["fn"].log_prob(node["value"])


def _elementwise(fn: Any) -> tuple[Any, int]:
    """The distribution of the elements, and how many axes of the event they fill; None where they depend."""
    depth = 0
    while isinstance(fn, Independent):
        fn, depth = fn.base_dist, depth + fn.reinterpreted_batch_ndims
    return (fn, depth) if not fn.event_shape else (None, 0)


def _closed_form(ours: Any, theirs: Any) -> torch.Tensor | None:
    try:
        return kl_divergence(ours, theirs)
    except NotImplementedError:
        return None


def _deviation(node: Any, prior: Any) -> torch.Tensor | None:
    try:
        variance = prior.variance
        known = torch.isfinite(variance) & (variance > 0.0)
        found = torch.where(known, (node["fn"].mean - prior.mean) / variance.sqrt(), math.nan)
        return found.expand(node["value"].shape)
    except (NotImplementedError, AttributeError):
        return None


def _follows_parents(name: str, latents: list[str], drawn: Mapping[str, Any]) -> bool:
    """Whether the guide draws a latent behind all that come before it in the model."""
    order = list(drawn)
    before = latents[: latents.index(name)]
    return all(other in drawn and order.index(other) < order.index(name) for other in before)


def _plates_of_observations(model: Mapping[str, Any]) -> set[str]:
    frames = [
        {f.name for f in node["cond_indep_stack"] if f.vectorized} for node in model.values() if node["is_observed"]
    ]
    shared = set.intersection(*frames) if frames else set()
    latents = [node for node in model.values() if not node["is_observed"]]
    # a plate inside that of the rows, as one of features, need not hold any latent
    return {name for name in shared if any(_inside(node, {name}) for node in latents)} or shared


def _inside(node: Any, plates: set[str]) -> bool:
    return plates <= {frame.name for frame in node["cond_indep_stack"]}
