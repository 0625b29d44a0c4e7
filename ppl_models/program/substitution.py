"""Run a program with other tensors in the place of its parameters, wherever it holds them."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

IS_LEARNT: Any = torch.Tensor.requires_grad.__get__  # pyright: ignore[reportAttributeAccessIssue]
"""Pyro asks it of a module's tensors to tell parameters from buffers; what is detached is a parameter still."""


class _Exchange(TorchFunctionMode):
    """Exchange tensors in the arguments of every torch function."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return func(*(self._exchange(a) for a in args), **{k: self._exchange(v) for k, v in (kwargs or {}).items()})

    def _exchange(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return self.instead_of(value)
        if type(value) in (list, tuple):
            return type(value)(self._exchange(item) for item in value)
        return value

    def instead_of(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor to use."""
        raise NotImplementedError


class Substitution(_Exchange):
    """Replace tensors by identity in the arguments of every torch function.

    A Pyro program reads its parameters from the param store, from its modules or from a closure; all of them hand the
    same tensor object to torch in the end, and there it is exchanged. The program itself is not touched.

    Args:
        replacements: id of the tensor held -> the tensor to use in its place.
    """

    def __init__(self, replacements: Mapping[int, torch.Tensor]):
        super().__init__()
        self.replacements = replacements

    def instead_of(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor to use."""
        return self.replacements.get(id(tensor), tensor)


class Detached(_Exchange):
    """Let no gradient reach these tensors, nor what a `Substitution` around this one puts in their place.

    Args:
        tensors: the tensors that the program holds.
    """

    def __init__(self, tensors: Iterable[torch.Tensor]):
        super().__init__()
        self.held = {id(tensor) for tensor in tensors}

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func == IS_LEARNT:
            return func(*args, **(kwargs or {}))
        return super().__torch_function__(func, types, args, kwargs)

    def instead_of(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor to use."""
        # The call of `detach` goes through the modes around this one, which exchange the tensor first.
        return tensor.detach() if id(tensor) in self.held else tensor
