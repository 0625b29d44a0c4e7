"""Importance weights of a draw, one for each datum where its latents are its own."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from pyro.poutine.indep_messenger import CondIndepStackFrame
from pyro.poutine.trace_struct import Trace

from ppl_models.errors import OptionError
from ppl_models.program.estimators.drawing import (
    Guide,
    Target,
    detached,
    draw,
    is_enumerated,
    log_p,
    log_q,
    model_trace,
)
from ppl_models.program.estimators.expected import Expected
from ppl_models.program.nodes import sites_of, summed
from ppl_models.program.program import Program


@dataclass(frozen=True)
class Weights:
    """Log p - log q in nats of one draw.

    Attributes:
        log_weight: one for each element of the plates that hold every site, unscaled; of shape () where there are none.
        scale: what each element stands for: plate size over subsample size.
    """

    log_weight: torch.Tensor
    scale: torch.Tensor


def weights_of(
    target: Target, guide_trace: Trace, values: Trace | None = None, *, guide_learns: bool = True
) -> Weights:
    """The weights of a draw.

    Elements of the plates that hold every site of guide and model are independent, so that the evidence is a product
    over them and each has a bound of its own; a subsample stands for the sum of all, outside the logarithm. Where a
    site stands outside (a global latent, alone or with local ones), one latent concerns all data and the weight is that
    of everything together; a subsample of the data would bend its logarithm, and is refused.

    Args:
        target: the model with its arguments.
        guide_trace: the guide at its draw.
        values: the draw that the model gets, if it is not that trace's; of the same values, with another graph.
        guide_learns: whether a gradient reaches the parameters through the guide's densities, which flows compute only
            when they are asked for.

    Raises:
        OptionError: one weight for everything, and data that are a subsample; or sites of one plate with other scales.
    """
    values = values or guide_trace
    guide_world = nullcontext if guide_learns else detached
    if isinstance(target, Expected) or is_enumerated(target):
        if not isinstance(target, Expected):
            _refuse_subsamples(target, [guide_trace])
        with guide_world():
            of_guide = log_q(guide_trace)
        return _joint(log_p(target, values) - of_guide)
    trace = model_trace(target, values)
    frames = shared_frames([*sites_of(guide_trace).values(), *sites_of(trace).values()])
    if not frames:
        _refuse_subsamples(target, [guide_trace, trace])
        with guide_world():
            of_guide = guide_trace.log_prob_sum()
        return _joint(torch.as_tensor(trace.log_prob_sum() - of_guide))
    axes = axes_of(frames)
    with guide_world():
        of_guide = sum(by_datum(node, axes) for node in sites_of(guide_trace).values())
    total: Any = sum(by_datum(node, axes) for node in sites_of(trace).values()) - of_guide
    return Weights(total, torch.as_tensor(scale_of(guide_trace, trace), dtype=total.dtype))


def _joint(log_weight: torch.Tensor) -> Weights:
    return Weights(log_weight, torch.ones_like(log_weight))


def axes_of(frames: set[CondIndepStackFrame]) -> list[int]:
    """The axes of plates, counted from the right of batch shapes, in order."""
    return sorted(frame.dim for frame in frames if frame.dim is not None)


def shared_frames(nodes: list[Any]) -> set[CondIndepStackFrame]:
    """The plates that hold all these sites."""
    frames = [{frame for frame in node["cond_indep_stack"] if frame.vectorized} for node in nodes]
    named = [{(frame.name, frame.dim) for frame in one} for one in frames]
    shared = set.intersection(*named) if named else set()
    return {frame for frame in (frames[0] if frames else ()) if (frame.name, frame.dim) in shared}


def by_datum(node: Any, axes: list[int]) -> torch.Tensor:
    """A site's log density, unscaled, summed over all axes but these, which come in order."""
    return summed(node, node["fn"].log_prob(node["value"]), axes, scaled=False)


def scale_of(*traces: Trace) -> Any:
    """The one scale of all sites.

    Raises:
        OptionError: they have several.
    """
    scales = {name: node["scale"] for trace in traces for name, node in sites_of(trace).items()}
    (first, scale), *others = scales.items()
    for name, other in others:
        if other is scale or (isinstance(other, (int, float)) and other == scale):
            continue
        if isinstance(other, torch.Tensor) and isinstance(scale, torch.Tensor) and torch.equal(other, scale):
            continue
        raise OptionError(
            f"estimator: a weight for each datum needs one scale, and the sites '{first}' and '{name}' have {scale!r} "
            f"and {other!r}. Scale both, or take 'total'."
        )
    return scale


def _refuse_subsamples(target: Target, traces: list[Trace]) -> None:
    subsampled = {
        frame.name
        for trace in traces
        for node in sites_of(trace).values()
        for frame in node["cond_indep_stack"]
        if frame.full_size is not None and frame.full_size > frame.size
    }
    batched = isinstance(target, Program) and target.batched
    if subsampled or batched:
        where = f"plate '{min(subsampled)}' holds a subsample" if subsampled else "the data come in batches"
        raise OptionError(
            f"estimator: {where}, and a latent or an observation stands outside of it. One weight for everything needs "
            "all the data: the logarithm of a mean of scaled weights is no bound. Take 'total', or give all the data."
        )


def check_weights(target: Target, guide: Guide) -> None:
    """Refuse what has no weights.

    Raises:
        OptionError: as `weights_of`.
    """
    with torch.no_grad():
        weights_of(target, draw(target, guide))


def grouped(terms: Mapping[str, torch.Tensor], name: str, draws_inside: int) -> torch.Tensor:
    """One term in the shape (estimate, draw inside, ...)."""
    term = terms[name]
    inside = min(draws_inside, len(term))
    return term.reshape(len(term) // inside, inside, *term.shape[1:])
