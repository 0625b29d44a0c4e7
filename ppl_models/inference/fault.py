"""What was not finite in a step that failed: an eager replay of it, with the same parameters and noise."""

import contextlib
import time
from collections.abc import Callable
from typing import Any, cast

import pyro
import pyro.poutine as poutine
import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample

from ppl_models.engine.step_data import FailedStep
from ppl_models.errors import first_line
from ppl_models.program import Program
from ppl_models.program.batching import NOT_VECTORISABLE
from ppl_models.program.isolation import forked_random
from ppl_models.program.nodes import nodes_of

NUM_DRAWS, MOST_SECONDS = 2_000, 2.0

Replay = Callable[[Callable[..., Any], Callable[..., Any]], object]


def describe_fault(step: FailedStep) -> str:
    """Name the parameter, or the site of guide or model, that is not finite first; empty where all are.

    Call it inside the program's world, with the guide's parameters in the store.
    """
    parameter = _parameter(step)
    if parameter:
        return f"parameter '{parameter}' was not finite: the gradient of the step before was not"
    normal, uniform, *indices = step.noise
    for particle in range(step.elbo.num_particles):
        with torch.no_grad(), step.elbo.replayed(step.flat, normal[particle], uniform[particle], indices):
            found = _site(cast(Program, step.elbo.program), step.elbo.guide)
        if found:
            return found
    return ""


def describe_fault_here(program: Program, guide: Callable[..., Any], replay: Replay | None = None) -> str:
    """The same of an eager step, at the parameters that are in the store.

    Args:
        program: the model with its data.
        guide: the guide.
        replay: runs the failed step again with a model and a guide; None where its noise is not known. Where it finds
            nothing, draws are made until one does.
    """
    for name, value in pyro.get_param_store().named_parameters():
        if not bool(torch.isfinite(value).all()):
            return f"parameter '{name}' was not finite"
    if replay is not None and (found := _site_of_replay(program, guide, replay)):
        return found
    until = time.perf_counter() + MOST_SECONDS
    with forked_random(program.device), torch.no_grad():
        for _ in range(NUM_DRAWS):
            found = _site(program, guide)
            if found or time.perf_counter() > until:
                return found
    return ""


def _parameter(step: FailedStep) -> str | None:
    start, flat = 0, step.elbo.parameters_at(step.flat)
    for name, holder in step.elbo.holders.items():
        stop = start + holder.numel()
        if not bool(torch.isfinite(flat[start:stop]).all()):
            return name
        start = stop
    return None


def _site(program: Program, guide: Callable[..., Any]) -> str:
    args, kwargs = program.arguments.args, program.arguments.kwargs
    try:
        guided = poutine.trace(guide).get_trace(*args, **kwargs)
        model = poutine.trace(poutine.replay(program.model, trace=guided)).get_trace(*args, **kwargs)
    except NOT_VECTORISABLE as error:
        return f"run again eagerly, it fails: {first_line(error)}"
    for trace, whose in ((guided, "guide"), (model, "model")):
        for name, node in nodes_of(trace).items():
            if node["type"] != "sample":
                continue
            found = _fault_of(whose, name, node)
            if found:
                return found
    return ""


def _fault_of(whose: str, name: str, node: Any) -> str:
    value = torch.as_tensor(node["value"])
    if not bool(torch.isfinite(value).all()) and not node["is_observed"]:
        return f"the {whose}'s site '{name}' has a value of {_first_bad(value)}"
    try:
        log_prob = torch.as_tensor(node["fn"].log_prob(node["value"]))
    except NOT_VECTORISABLE as error:
        return f"the {whose}'s site '{name}' fails: {first_line(error)}"
    if not bool(torch.isfinite(log_prob).all()):
        return f"the {whose}'s site '{name}' has a log density of {_first_bad(log_prob)}"
    return ""


class _Watch(Messenger):
    """Note what is not finite at the sites of a model or guide, in the order that they are reached."""

    def __init__(self, whose: str, found: list[str]):
        super().__init__()
        self.whose, self.found = whose, found

    def _pyro_post_sample(self, msg: Any) -> None:
        if not site_is_subsample(msg) and (fault := _fault_of(self.whose, msg["name"], msg)):
            self.found.append(fault)


def _site_of_replay(program: Program, guide: Callable[..., Any], replay: Replay) -> str:
    found: list[str] = []
    # Values under vmap cannot be looked at, and a step that fails is told of by its own error.
    with contextlib.suppress(*NOT_VECTORISABLE):
        replay(_Watch("model", found)(program.model), _Watch("guide", found)(guide))
    return found[0] if found else ""


def _first_bad(tensor: torch.Tensor) -> float:
    return float(tensor[~torch.isfinite(tensor)].reshape(-1)[0])
