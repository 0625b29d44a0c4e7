"""What a backend must offer: code for a captured graph, bound to tensors and run step by step."""

from collections.abc import Sequence
from typing import Protocol

import torch

from ppl_models.engine.graph import Graph


class Runner(Protocol):
    """Compiled code bound to its state, which it changes in place, and to the inputs that stay."""

    def run(
        self, count: int, streams: Sequence[torch.Tensor], results: Sequence[torch.Tensor], *, guard: bool = False
    ) -> int:
        """Run up to `count` steps.

        Args:
            count: how many.
            streams: inputs that are new at every step, each of shape (step, ...), contiguous.
            results: filled, each of shape (step, ...).
            guard: stop behind a step whose first result is not finite.

        Returns:
            The number of steps made.
        """
        ...


class Compiled(Protocol):
    """Compiled code of one graph, whatever the values of its inputs."""

    def bind(self, state: Sequence[torch.Tensor], fixed: Sequence[torch.Tensor]) -> Runner:
        """Bind the code to tensors: the state, then what stays the same at every step."""
        ...


class Backend(Protocol):
    """One way to run a captured graph. A backend is one file with one of these, listed in `backends.py`."""

    name: str

    def available(self) -> str | None:
        """None where this backend can run here, else what is missing."""
        ...

    def is_compiled(self, graph: Graph) -> bool:
        """Whether `compile` would be quick, because this graph was compiled before."""
        ...

    def compile(self, graph: Graph) -> Compiled:
        """Compile a graph.

        Raises:
            CaptureError: this backend cannot compile it.
        """
        ...
