"""Data exchanged in place, under code that is bound to the tensors which hold them."""

from dataclasses import replace
from typing import Any

import pyro.poutine as poutine
import torch

from ppl_models.program import Data, Program
from ppl_models.program.data import prepare_arguments
from ppl_models.program.nodes import nodes_of
from ppl_models.program.program import bounds


class SwapError(Exception):
    """Other data cannot take the place of those that the code was made for; a whole fit serves them."""


class Swap:
    """A program with tensors of its own for its data, which `take` fills with others.

    Args:
        program: the model with its first data.

    Attributes:
        program: the same, called with these tensors.
    """

    def __init__(self, program: Program):
        tensors = {name: value.detach().clone() for name, value in program.arguments.tensors().items()}
        self.program = replace(program, arguments=program.arguments.with_tensors(tensors))
        self._supports = _bounds(self.program)

    def take(self, data: Data) -> Program:
        """Give the tensors the values of other data.

        Returns:
            The program with tensors of their own for these data: what the model gives there cannot come from what it,
            or a cache of the user's, remembers of the tensors that are filled anew.

        Raises:
            DataError: the data do not fit the model's signature, or hold NaN.
            SwapError: they have other shapes, or values beside tensors that differ.
        """
        arguments = prepare_arguments(self.program.model, data, self.program.dtype).on(self.program.device)
        given, own = arguments.named(), self.program.arguments.named()
        if given.keys() != own.keys():
            raise SwapError(f"the arguments are {sorted(given)}, those of the fit {sorted(own)}")
        converted = {name: _like(name, given[name], own[name]) for name in own}
        tensors = {name: value for name, value in converted.items() if isinstance(value, torch.Tensor)}
        for name, value in tensors.items():
            own[name].copy_(value)
        fresh = {name: value.clone() for name, value in tensors.items()}
        return replace(self.program, arguments=arguments.with_tensors(fresh))

    def check_supports(self, fresh: Program) -> None:
        """Refuse data that move a latent's support: automatic guides keep that of their first run.

        Raises:
            SwapError: a support differs from that at the first data.
        """
        for name, found in _bounds(fresh).items():
            for one, other in zip(found, self._supports[name], strict=True):
                if not torch.equal(torch.as_tensor(one), torch.as_tensor(other)):
                    raise SwapError(f"the support of '{name}' depends on the data")


def _bounds(program: Program) -> dict[str, list[Any]]:
    with program.isolated(seed=0), torch.no_grad():
        arguments = program.arguments
        nodes = nodes_of(poutine.trace(program.model).get_trace(*arguments.args, **arguments.kwargs))
    found = {site.name: bounds(nodes[site.name]["fn"].support) for site in program.sites.latent}
    # A bound may be a view of the data, which are about to change.
    return {name: [torch.as_tensor(one).clone() for one in each] for name, each in found.items()}


def _like(name: str, value: Any, own: Any) -> Any:
    """A value as the tensor whose place it takes has it."""
    if isinstance(own, torch.Tensor) != isinstance(value, torch.Tensor):
        raise SwapError(f"argument '{name}' is a {type(value).__name__}, that of the fit a {type(own).__name__}")
    if not isinstance(own, torch.Tensor):
        if value is not own and not _equal(value, own):
            raise SwapError(f"argument '{name}' is no tensor, and not that of the fit")
        return value
    if value.shape != own.shape:
        raise SwapError(f"argument '{name}' has shape {tuple(value.shape)}, that of the fit {tuple(own.shape)}")
    converted = value.to(own.dtype)
    if not torch.equal(converted.to(value.dtype), value):
        raise SwapError(f"argument '{name}' holds {value.dtype}, that of the fit {own.dtype}")
    return converted


def _equal(one: Any, other: Any) -> bool:
    try:
        return type(one) is type(other) and bool(one == other)
    except (TypeError, ValueError, RuntimeError):
        return False
