"""One particle of the evidence lower bound, by the estimators that Pyro has for reparameterised guides."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyro.poutine as poutine
import torch
from pyro.distributions.util import scale_and_mask
from pyro.poutine.trace_struct import Trace
from torch.distributions import kl_divergence

from ppl_models.program.data import Arguments
from ppl_models.program.handlers import is_latent
from ppl_models.program.nodes import nodes_of
from ppl_models.program.program import Program

Callee = Callable[..., Any]
LogRatio = Callable[[Any, Callee], torch.Tensor]
"""Takes a program (or a call) and a guide; returns the log ratio of one particle."""


@dataclass(frozen=True)
class Call:
    """A model with its arguments, as Pyro's own ELBOs get them; the part of a `Program` that an ELBO needs."""

    model: Callee
    arguments: Arguments
    dtype: torch.dtype


def call_log_ratio(call: "Call | Program", guide: Callee) -> torch.Tensor:
    """Log p - log q in nats at one draw of a guide."""
    return log_ratio(call.model, guide, call.arguments.args, call.arguments.kwargs)


def log_ratio(model: Callee, guide: Callee, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> torch.Tensor:
    """Log p - log q in nats at one draw of a guide, in the caller's Pyro state."""
    guide_trace, model_trace = _traces(model, guide, args, kwargs)
    return torch.as_tensor(model_trace.log_prob_sum() - guide_trace.log_prob_sum())


def program_log_ratio(program: Program, guide: Callee) -> torch.Tensor:
    """Log p - log q in nats at one draw of a guide, with a program's enumerated sites summed out of log p."""
    args, kwargs = program.arguments.args, program.arguments.kwargs
    if not program.sites.enumerated:
        return log_ratio(program.model, guide, args, kwargs)
    trace = poutine.trace(guide).get_trace(*args, **kwargs)
    values = {site.name: nodes_of(trace)[site.name]["value"] for site in program.sites.latent}
    return program.log_joint(values) - trace.log_prob_sum()


def mean_field_log_ratio(program: Program, guide: Callee) -> torch.Tensor:
    """The log ratio with each latent's part replaced by its divergence KL(q || p), where that is known in closed form.

    As Pyro's `TraceMeanField_ELBO`: unbiased where no latent's prior depends on a descendant of it in the guide.
    """
    guide_trace, model_trace = _traces(program.model, guide, program.arguments.args, program.arguments.kwargs)
    total = model_trace.log_prob_sum(_observed)
    guide_nodes, model_nodes = nodes_of(guide_trace), nodes_of(model_trace)
    for name, node in guide_nodes.items():
        if node["type"] != "sample" or not is_latent(node):
            continue
        prior = model_nodes.get(name)
        try:
            divergence = kl_divergence(node["fn"], prior["fn"]) if prior is not None else None
        except NotImplementedError:
            divergence = None
        if divergence is None:
            total = total - guide_trace.log_prob_sum(_only(name))
            total = total + (model_trace.log_prob_sum(_only(name)) if prior is not None else 0.0)
        else:
            whole = torch.as_tensor(divergence).expand(node["fn"].batch_shape)
            total = total - torch.as_tensor(scale_and_mask(whole, scale=node["scale"], mask=node["mask"])).sum()
    return torch.as_tensor(total)


def _observed(_: str, node: Any) -> bool:
    return node["is_observed"]


def _only(wanted: str) -> Callable[[str, Mapping[str, Any]], bool]:
    return lambda name, _: name == wanted


def _traces(model: Callee, guide: Callee, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Trace, Trace]:
    guide_trace = poutine.trace(guide).get_trace(*args, **kwargs)
    return guide_trace, poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(*args, **kwargs)
