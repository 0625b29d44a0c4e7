"""What was not finite in a step that failed: an eager replay of it, with the same parameters and noise."""

import pyro.poutine as poutine
import torch

from ppl_models.engine.svi_graph import FailedStep
from ppl_models.errors import first_line
from ppl_models.program.batching import NOT_VECTORISABLE
from ppl_models.program.nodes import nodes_of


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
            found = _site(step)
        if found:
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


def _site(step: FailedStep) -> str:
    program = step.elbo.program
    args, kwargs = program.arguments.args, program.arguments.kwargs
    try:
        guide = poutine.trace(step.elbo.guide).get_trace(*args, **kwargs)
        model = poutine.trace(poutine.replay(program.model, trace=guide)).get_trace(*args, **kwargs)
    except NOT_VECTORISABLE as error:
        return f"run again eagerly, it fails: {first_line(error)}"
    for trace, whose in ((guide, "guide"), (model, "model")):
        for name, node in nodes_of(trace).items():
            if node["type"] != "sample":
                continue
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


def _first_bad(tensor: torch.Tensor) -> float:
    return float(tensor[~torch.isfinite(tensor)].reshape(-1)[0])
