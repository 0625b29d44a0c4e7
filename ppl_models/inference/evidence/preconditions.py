"""What a model must have for an evidence: something observed, and priors that integrate to one."""

import inspect
from typing import Any

import pyro.poutine as poutine
import torch
from pyro.poutine.trace_struct import Trace
from pyro.poutine.util import site_is_factor, site_is_subsample

from ppl_models.errors import ModelError
from ppl_models.program import Program
from ppl_models.program.handlers import SampleableImproperUniform
from ppl_models.program.nodes import nodes_of


def check_observed(program: Program, where: str) -> int | None:
    """Refuse a model that observes nothing.

    Returns:
        How many numbers it observes; None where a factor stands for data, whose number it does not tell.

    Raises:
        ModelError: no site is observed, and there is no factor.
    """
    observed = [node for node in nodes_of(_trace(program)).values() if _is_observed(node)]
    if not observed:
        names = " or ".join(f"'{name}'" for name in _left_out(program))
        what = f"Give the argument {names}, which is None" if names else "Give data to obs= of a site"
        raise ModelError(f"{where}: no site of the model is observed, so that there are no data. {what}.")
    if any(site_is_factor(node) for node in observed):
        return None
    return sum(torch.as_tensor(node["value"]).numel() for node in observed)


def check_proper(program: Program, guide_trace: Trace | None = None) -> None:
    """Refuse a prior that does not integrate to one.

    Args:
        program: the model with its data.
        guide_trace: a draw of the guide, where its density stands against the prior's: a mask or a scale that both have
            takes nothing away.

    Raises:
        ModelError: a prior is improper, masked, or scaled.
    """
    nodes, drawn = nodes_of(_trace(program)), nodes_of(guide_trace) if guide_trace is not None else {}
    for site in program.sites.latent:
        fault = improper(nodes[site.name], drawn.get(site.name))
        if not fault and guide_trace is None and not program.subsampled:
            fault = scaled(nodes[site.name])
        if fault:
            raise ModelError(improper_message(site.name, fault))


def improper_message(name: str, fault: str) -> str:
    """What to say of a prior that is none."""
    return (
        f"site '{name}': {fault}, and a model has an evidence only where its prior integrates to one. Give the site a "
        "proper distribution."
    )


def improper(node: Any, drawn: Any = None) -> str:
    """Why a latent's prior does not integrate to one; empty where it does.

    Args:
        node: the site in the model's trace.
        drawn: the site in the guide's trace; None where the guide has none of its name.
    """
    fn = node["fn"]
    while True:
        if isinstance(fn, SampleableImproperUniform):
            return "its prior is improper"
        if getattr(fn, "_mask", None) is not None:
            return "its prior is masked, which makes it improper"
        if not hasattr(fn, "base_dist"):
            break
        fn = fn.base_dist
    kept = _kept(node)
    if bool(kept.all()) or (drawn is not None and torch.equal(*torch.broadcast_tensors(kept, _kept(drawn)))):
        return ""
    return "its prior is masked, which makes it improper"


def scaled(node: Any) -> str:
    """Whether a latent's prior is raised to a power; empty where it is not."""
    return "its prior is scaled" if bool((torch.as_tensor(node["scale"]) != 1).any()) else ""


def _kept(node: Any) -> torch.Tensor:
    mask = node.get("mask")
    return torch.as_tensor(True if mask is None else mask)


def _trace(program: Program) -> Trace:
    with program.isolated(seed=0), torch.no_grad():
        return poutine.trace(program.model).get_trace(*program.arguments.args, **program.arguments.kwargs)


def _is_observed(node: Any) -> bool:
    return (
        node["type"] == "sample"
        and node["is_observed"]
        and not site_is_subsample(node)
        and not node["infer"].get("_deterministic")
    )


def _left_out(program: Program) -> list[str]:
    """Arguments of the model that are None."""
    given = {name for name, value in program.arguments.named().items() if value is not None}
    try:
        parameters = inspect.signature(program.model).parameters.values()
    except (TypeError, ValueError):
        return []
    packed = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [one.name for one in parameters if one.kind not in packed and one.name not in given]
