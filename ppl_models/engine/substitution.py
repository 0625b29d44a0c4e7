"""Run a program with other tensors in the place of its parameters, wherever it holds them."""

from collections.abc import Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class Substitution(TorchFunctionMode):
    """Replace tensors by identity in the arguments of every torch function.

    A Pyro program reads its parameters from the param store, from its modules or from a closure; all of them hand the
    same tensor object to torch in the end, and there it is exchanged. The program itself is not touched.

    Args:
        replacements: id of the tensor held -> the tensor to use in its place.
    """

    def __init__(self, replacements: Mapping[int, torch.Tensor]):
        super().__init__()
        self.replacements = replacements

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return func(*(self._exchange(a) for a in args), **{k: self._exchange(v) for k, v in (kwargs or {}).items()})

    def _exchange(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return self.replacements.get(id(value), value)
        if type(value) in (list, tuple):
            return type(value)(self._exchange(item) for item in value)
        return value
