"""One particle of the evidence lower bound."""

from collections.abc import Callable, Mapping
from typing import Any

import pyro.poutine as poutine
import torch

from ppl_models.program.nodes import nodes_of
from ppl_models.program.program import Program

Callee = Callable[..., Any]


def log_ratio(model: Callee, guide: Callee, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> torch.Tensor:
    """Log p - log q in nats at one draw of a guide, in the caller's Pyro state."""
    guide_trace = poutine.trace(guide).get_trace(*args, **kwargs)
    model_trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(*args, **kwargs)
    return torch.as_tensor(model_trace.log_prob_sum() - guide_trace.log_prob_sum())


def program_log_ratio(program: Program, guide: Callee) -> torch.Tensor:
    """Log p - log q in nats at one draw of a guide, with a program's enumerated sites summed out of log p."""
    args, kwargs = program.arguments.args, program.arguments.kwargs
    if not program.sites.enumerated:
        return log_ratio(program.model, guide, args, kwargs)
    trace = poutine.trace(guide).get_trace(*args, **kwargs)
    values = {site.name: nodes_of(trace)[site.name]["value"] for site in program.sites.latent}
    return program.log_joint(values) - trace.log_prob_sum()
