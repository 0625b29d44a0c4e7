"""Draws of a guide, and what is averaged over them, with or without a gradient that reaches the parameters."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import pyro
import pyro.poutine as poutine
import torch
from pyro.distributions import Delta
from pyro.poutine.messenger import Messenger
from pyro.poutine.trace_struct import Trace
from pyro.poutine.util import site_is_subsample

from ppl_models.program.elbo import Call
from ppl_models.program.estimators.expected import SITE, Expected
from ppl_models.program.handlers import is_latent
from ppl_models.program.nodes import nodes_of
from ppl_models.program.program import Program
from ppl_models.program.substitution import Detached

Target = Program | Call | Expected
Guide = Callable[..., Any]


def draw(target: Target, guide: Guide) -> Trace:
    """A guide's trace at one draw."""
    return poutine.trace(guide).get_trace(*target.arguments.args, **target.arguments.kwargs)


def strata_of(target: Target, guide: Guide) -> list[tuple[Any, Guide]]:
    """The parts of a guide that are drawn apart, with weights that sum to 1; the whole where it names none."""
    strata = getattr(guide, "strata", None)
    if not callable(strata):
        return [(1.0, guide)]
    found: Any = strata(*target.arguments.args, **target.arguments.kwargs)
    return list(found)


def average(terms: Sequence[tuple[Any, torch.Tensor]]) -> torch.Tensor:
    """Sum of weight times value."""
    if len(terms) == 1:
        return terms[0][1]
    return torch.stack([weight * value for weight, value in terms]).sum()


def model_trace(target: Target, values: Trace) -> Trace:
    """The model's trace at a guide's draw."""
    assert not isinstance(target, Expected), "a free expectation has no model"
    model = poutine.replay(target.model, trace=values)
    return poutine.trace(model).get_trace(*target.arguments.args, **target.arguments.kwargs)


def is_enumerated(target: Target) -> bool:
    """Whether the target's log density sums discrete sites out."""
    return isinstance(target, Program) and bool(target.sites.enumerated)


def log_p(target: Target, trace: Trace) -> torch.Tensor:
    """Log joint density in nats at a guide's draw, discrete sites summed out; of a free expectation the function."""
    if isinstance(target, Expected):
        return target.value(nodes_of(trace)[SITE]["value"])
    if isinstance(target, Program) and target.sites.enumerated:
        return target.log_joint({site.name: nodes_of(trace)[site.name]["value"] for site in target.sites.latent})
    return torch.as_tensor(model_trace(target, trace).log_prob_sum())


def log_q(trace: Trace) -> torch.Tensor:
    """Log density of the guide in nats at its draw."""
    return torch.as_tensor(trace.log_prob_sum())


def objective(target: Target, trace: Trace) -> torch.Tensor:
    """What is averaged over draws of the guide: log p - log q in nats, or the function of a free expectation."""
    value = log_p(target, trace)
    return value if isinstance(target, Expected) and not target.log_density else value - log_q(trace)


def own_part(target: Target, trace: Trace, names: Collection[str]) -> torch.Tensor:
    """What the log density of some sites of the guide adds to the objective, less its sign."""
    if isinstance(target, Expected) and not target.log_density:
        return torch.zeros((), dtype=target.dtype)
    return torch.as_tensor(trace.log_prob_sum(lambda name, _: name in names), dtype=target.dtype)


def detached() -> Detached:
    """A context in which no gradient reaches the parameters of the param store."""
    return Detached([holder for _, holder in pyro.get_param_store().named_parameters()])


def frozen_log_q(target: Target, guide: Guide, trace: Trace, stratum: int | None = None) -> torch.Tensor:
    """Log density of the guide in nats at a draw of it, with a gradient through the draw alone.

    Args:
        target: the model with its arguments.
        guide: the guide.
        trace: the draw.
        stratum: which of the guide's strata was drawn; None where it has none.
    """
    with detached():
        part = guide if stratum is None else strata_of(target, guide)[stratum][1]
        return log_q(draw(target, Again(trace)(part)))


def latents_of(trace: Trace) -> dict[str, Any]:
    """The sites that a guide draws, auxiliary ones too, by name."""
    return {name: node for name, node in nodes_of(trace).items() if node["type"] == "sample" and is_latent(node)}


def held_still(trace: Trace) -> Trace:
    """The same trace, its values without their graph and its densities forgotten."""
    copied = trace.copy()
    for name, node in list(nodes_of(copied).items()):
        if node["type"] == "sample" and isinstance(node["value"], torch.Tensor):
            nodes: Any = copied.nodes
            kept = {key: part for key, part in node.items() if "log_prob" not in key}
            nodes[name] = {**kept, "value": node["value"].detach()}
    return copied


class Again(Messenger):
    """Give every site the value that it has in a trace, but for point masses, which follow from the others.

    A flow remembers its latest draw by the tensor's identity, and with it a density that the live parameters made; so
    the values are other tensors.
    """

    def __init__(self, trace: Trace):
        super().__init__()
        self.values: Mapping[str, Any] = {
            name: node["value"] for name, node in nodes_of(trace).items() if node["type"] == "sample"
        }

    def _pyro_sample(self, msg: Any) -> None:
        if msg["is_observed"] or msg["name"] not in self.values or isinstance(msg["fn"], Delta):
            return
        value = self.values[msg["name"]]
        msg["value"], msg["done"] = value if site_is_subsample(msg) else value.view_as(value), True
