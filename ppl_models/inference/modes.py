"""Networks in training mode while steps are made, and in evaluation mode when they are looked at or used."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

Buffers = tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class Networks:
    """The modules of a fit's private copies, with layers that may behave otherwise in training, as batch normalisation.

    In training mode such a layer makes q(z | x) of a row depend on the rows beside it, or draws random numbers, and
    rows that are only looked at would leave their mark in its running averages.

    Attributes:
        modules: all modules, each once.
    """

    modules: tuple[nn.Module, ...] = ()

    @classmethod
    def of(cls, memo: Mapping[int, Any]) -> "Networks":
        """The modules among a fit's private copies."""
        found = {id(part): part for one in memo.values() if isinstance(one, nn.Module) for part in one.modules()}
        return cls(tuple(found.values()))

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """A context in which all are in evaluation mode."""
        training = [module for module in self.modules if module.training]
        self._set(training, training=False)
        try:
            yield
        finally:
            self._set(training, training=True)

    def settle(self) -> None:
        """Leave all in evaluation mode."""
        self._set(self.modules, training=False)

    def buffers(self) -> Buffers:
        """Copies of what the layers remember beside parameters, as running averages."""
        return tuple(buffer.clone() for module in self.modules for buffer in module.buffers(recurse=False))

    def restore(self, buffers: Buffers) -> None:
        """Put such copies back in place."""
        own = (buffer for module in self.modules for buffer in module.buffers(recurse=False))
        with torch.no_grad():
            for buffer, value in zip(own, buffers, strict=True):
                buffer.copy_(value)

    @staticmethod
    def _set(modules: Any, *, training: bool) -> None:
        for module in modules:
            module.training = training
