"""Private copies of a user's modules, so that a fit never trains the originals."""

import copy
import inspect
from typing import Any

import torch
from pyro.infer.autoguide import AutoGuide
from pyro.nn import PyroModule
from torch.distributions import Distribution


def private_copy(
    program: Any, memo: dict[int, Any], dtype: torch.dtype | None = None, device: torch.device | None = None
) -> Any:
    """A copy of a module or of a module's method; a plain function is returned as it is.

    Args:
        program: a model or guide.
        memo: shared by the copies of one fit, so that modules that share parts still do.
        dtype: floating dtype of the copy's parameters, buffers and priors (`PyroSample`); None keeps theirs.
        device: where the copy stands; None keeps theirs.
    """
    owner = program.__self__ if inspect.ismethod(program) else program
    if not isinstance(owner, torch.nn.Module):
        return program
    duplicate = copy_module(owner, memo)
    if device is not None:
        duplicate.to(device)
    if dtype is not None:
        duplicate.to(dtype)
        for part in duplicate.modules():
            for prior in part._pyro_samples.values() if isinstance(part, PyroModule) else ():
                _cast(prior, dtype)
    return duplicate if owner is program else getattr(duplicate, program.__name__)


def _cast(prior: Any, dtype: torch.dtype) -> None:
    """Give a distribution's parameters this dtype, in place: `dist.Normal(0.0, 1.0)` has that of its first day."""
    if not isinstance(prior, Distribution):
        return
    for name, value in vars(prior).items():
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            vars(prior)[name] = value.to(dtype)
        else:
            _cast(value, dtype)


def copy_module(module: torch.nn.Module, memo: dict[int, Any]) -> torch.nn.Module:
    """Deep copy of a module, Pyro's automatic guides among them."""
    # Pyro's AutoGuide drops its model when it is copied, from the original too, so take both out and put them back.
    guides = [part for part in module.modules() if isinstance(part, AutoGuide)]
    held = [(part, part._model, part.master, part.prototype_trace) for part in guides]
    for part in guides:
        part.prototype_trace = None
    try:
        duplicate = copy.deepcopy(module, memo)
    finally:
        for part, model, master, trace in held:
            part._model, part.master, part.prototype_trace = model, master, trace
    for part, model, _, trace in held:
        memo[id(part)]._model = model
        memo[id(part)].prototype_trace = trace
    return duplicate


def num_module_parameters(*programs: Any) -> int:
    """How many numbers the modules behind the given models and guides hold as parameters."""
    owners = {id(owner): owner for p in programs if isinstance(owner := getattr(p, "__self__", p), torch.nn.Module)}
    return sum(parameter.numel() for owner in owners.values() for parameter in owner.parameters())
