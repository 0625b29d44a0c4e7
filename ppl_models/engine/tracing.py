"""Trace a function of tensors to a graph of ATen operations.

`torch.fx.experimental.proxy_tensor.make_fx` does the same with a proxy and a fake tensor for every operation, at about
a millisecond each; capture is run twice for every fit, cached or not, so it has to be quicker than that.
"""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.fx import Graph, GraphModule, Node
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from ppl_models.errors import CaptureError

aten = torch.ops.aten
VALUE_READERS = {aten._local_scalar_dense.default, aten.is_nonzero.default, aten.equal.default, aten.nonzero.default}
"""Operations whose result depends on values in a way that a graph cannot hold."""

CHECKS = {aten._linalg_check_errors.default}
FACTORISATIONS = {aten.linalg_cholesky_ex.default, aten.linalg_inv_ex.default}


class Tracer(TorchDispatchMode):
    """Write down every operation that depends on the inputs, or on a random generator.

    Results that depend on neither are computed once, and become constants: inputs that are added behind the others.

    Attributes:
        graph: what was written down.
        constants: the tensors that the added inputs stand for.
        random: names of the random operations that are part of the graph.
    """

    def __init__(self, inputs: Sequence[torch.Tensor]):
        super().__init__()
        self.graph = Graph()
        self.constants: list[torch.Tensor] = []
        self.random: list[str] = []
        self._nodes = WeakIdKeyDictionary()
        for index, tensor in enumerate(inputs):
            self._nodes[tensor] = self.graph.placeholder(f"input_{index}")
        self._last_input = next(reversed(self.graph.nodes), None)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        traced = self._is_traced(args) or self._is_traced(kwargs.values())
        if traced and func in VALUE_READERS:
            raise CaptureError(f"its Python code reads the value of a tensor ({_name(func)}): {VALUE_ADVICE}")
        if func in CHECKS:
            return None
        result = func(*args, **kwargs)
        if func in FACTORISATIONS and traced:
            return self._marked(func, args, kwargs, result)
        draws = torch.Tag.nondeterministic_seeded in func.tags
        if draws:
            self.random.append(_name(func))
        if traced or draws:
            node = self.graph.call_function(func, self._written(args), self._written(kwargs))
            self._remember(result, node)
        return result

    def _marked(self, func: Any, args: tuple, kwargs: dict[str, Any], result: Any) -> Any:
        """A factorisation whose numbers become NaN where it failed: a graph cannot raise."""
        self._remember(result, self.graph.call_function(func, self._written(args), self._written(kwargs)))
        *factors, info = result
        with self:
            failed = (info != 0)[..., None, None]
            return (*(torch.where(failed, torch.nan, f) if f.is_floating_point() else f for f in factors), info)

    def _is_traced(self, values: Any) -> bool:
        return any(
            (isinstance(value, torch.Tensor) and value in self._nodes)
            or (isinstance(value, (list, tuple)) and self._is_traced(value))
            for value in values
        )

    def _written(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return self.node_of(value)
        if isinstance(value, (list, tuple)):
            return type(value)(self._written(item) for item in value)
        if isinstance(value, dict):
            return {key: self._written(item) for key, item in value.items()}
        return value

    def node_of(self, tensor: torch.Tensor) -> Node:
        """The node of a tensor; a tensor that no operation made is a constant."""
        found = self._nodes.get(tensor)
        if found is None:
            with self.graph.inserting_after(self._last_input) if self._last_input else self.graph.inserting_before():
                found = self.graph.placeholder(f"constant_{len(self.constants)}")
            self._last_input = found
            self._nodes[tensor] = found
            self.constants.append(tensor)
        return found

    def _remember(self, result: Any, node: Node) -> None:
        if isinstance(result, torch.Tensor):
            self._nodes[result] = node
        elif isinstance(result, (list, tuple)):
            for index, item in enumerate(result):
                if isinstance(item, torch.Tensor):
                    self._nodes[item] = self.graph.call_function(operator.getitem, (node, index))


VALUE_ADVICE = (
    "write it with tensor operations (torch.where, masks, cumulative products) in place of if, float() or .item()"
)


def trace(
    function: Callable[..., Sequence[torch.Tensor]], inputs: Sequence[torch.Tensor]
) -> tuple[GraphModule, list[torch.Tensor], list[str]]:
    """Run a function once and write down what it does.

    Args:
        function: takes the inputs and returns tensors; it may change inputs in place.
        inputs: example values; none may be a view of another.

    Returns:
        The graph, whose inputs are those given and then the constants; the constants; the random operations in it.

    Raises:
        CaptureError: the function's Python reads the value of a tensor that depends on the inputs.
    """
    tracer = Tracer(inputs)
    with torch.no_grad(), tracer:
        results = function(*inputs)
    tracer.graph.output(tuple(tracer.node_of(result) for result in results))
    tracer.graph.eliminate_dead_code()
    return GraphModule(torch.nn.Module(), tracer.graph), tracer.constants, tracer.random


def _name(func: Any) -> str:
    return str(func).removesuffix(".default")
