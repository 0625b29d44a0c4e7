"""Trace a function of tensors to a graph of ATen operations.

`torch.fx.experimental.proxy_tensor.make_fx` does the same with a proxy and a fake tensor for every operation, at about
a millisecond each; capture is run twice for every fit, cached or not, so it has to be quicker than that.
"""

import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch.fx import Graph, GraphModule, Node
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from ppl_models.errors import CaptureError

aten = torch.ops.aten
MOST_RUNS = 5
VALUE_READERS = {aten._local_scalar_dense.default, aten.is_nonzero.default, aten.equal.default, aten.nonzero.default}
"""Operations whose result depends on values in a way that a graph cannot hold."""

CHECKS = {aten._linalg_check_errors.default}
FROM_PYTHON = aten.lift_fresh.default
UNFILLED = {aten.empty, aten.empty_like, aten.empty_strided, aten.new_empty, aten.new_empty_strided}
FACTORISATIONS = {aten.linalg_cholesky_ex.default, aten.linalg_inv_ex.default}


class Tracer(TorchDispatchMode):
    """Write down every operation that depends on the inputs, or on a random generator.

    Results that depend on neither are computed once, and become constants: inputs that are added behind the others.

    Args:
        inputs: example values.
        buffers: operations, by their number, whose results are no constants although they depend on nothing.

    Attributes:
        graph: what was written down.
        constants: the tensors that the added inputs stand for.
        random: names of the random operations that are part of the graph.
        sources: tensors from outside that were read, with their versions: what was computed from them is a constant.
        changed: operations, by their number, that made a constant which was changed in place afterwards: what was
            written down is wrong, unless these are among the buffers.
    """

    def __init__(self, inputs: Sequence[torch.Tensor], buffers: frozenset[int] = frozenset()):
        super().__init__()
        self.graph = Graph()
        self.constants: list[torch.Tensor] = []
        self.random: list[str] = []
        self.changed: set[int] = set()
        self._buffers = buffers
        self._number = 0
        self._nodes = WeakIdKeyDictionary()
        self._lifted = WeakIdKeyDictionary()
        self._lifted_memory: set[int] = set()
        self._makers: dict[int, int] = {}
        self.sources: dict[int, tuple[torch.Tensor, int]] = {}
        for index, tensor in enumerate(inputs):
            _require_dense(tensor)
            self._nodes[tensor] = _described(self.graph.placeholder(f"input_{index}"), tensor)
        self._last_input = next(reversed(self.graph.nodes), None)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        self._number += 1
        traced = self._is_traced(args) or self._is_traced(kwargs.values())
        if traced and func in VALUE_READERS:
            raise CaptureError(f"its Python code reads the value of a tensor ({_name(func)}): {VALUE_ADVICE}")
        if func in CHECKS:
            return None
        if not traced and self._number in self._buffers:
            traced, func = True, aten.clone.default if func is FROM_PYTHON else func
        draws = torch.Tag.nondeterministic_seeded in func.tags
        self._note_changes(func, args, kwargs, written_down=traced or draws)
        self._note_sources((*args, *kwargs.values()))
        result = func(*args, **kwargs)
        if func in FACTORISATIONS and traced:
            return self._marked(func, args, kwargs, result)
        if draws:
            self.random.append(_name(func))
        if not (traced or draws):
            if func.overloadpacket in UNFILLED:
                result.zero_()  # what stood there before would differ from run to run
            self._note_maker(func, result)
        else:
            node = self.graph.call_function(func, self._written(args), self._written(kwargs))
            self._remember(result, node)
        return result

    def _marked(self, func: Any, args: tuple, kwargs: dict[str, Any], result: Any) -> Any:
        """A factorisation whose numbers become NaN where it failed: a graph cannot raise."""
        self._remember(result, self.graph.call_function(func, self._written(args), self._written(kwargs)))
        *factors, info = result
        number = self._number
        with self:
            failed = (info != 0)[..., None, None]
            marked = (*(torch.where(failed, torch.nan, f) if f.is_floating_point() else f for f in factors), info)
        self._number = number
        return marked

    def _note_changes(self, func: Any, args: tuple, kwargs: dict[str, Any], written_down: bool) -> None:
        """Notice a constant that is changed in place, by what is written down or after it was read there."""
        if not func._schema.is_mutable:
            return
        named = {**dict(zip((a.name for a in func._schema.arguments), args, strict=False)), **kwargs}
        for declared in func._schema.arguments:
            if declared.alias_info is None or not declared.alias_info.is_write:
                continue
            value = named.get(declared.name)
            for tensor in value if isinstance(value, (list, tuple)) else (value,):
                if not isinstance(tensor, torch.Tensor) or tensor in self._nodes:
                    continue
                memory = _memory(tensor)
                if memory and (written_down or memory in self._lifted_memory):
                    if memory not in self._makers:
                        raise CaptureError("its Python code changes a tensor in place that outlives one step")
                    self.changed.add(self._makers[memory])

    def _note_sources(self, values: Iterable[Any]) -> None:
        for value in values:
            if isinstance(value, (list, tuple)):
                self._note_sources(value)
            elif isinstance(value, torch.Tensor) and self._is_source(value):
                self.sources[id(value)] = (value, value._version)

    def _is_source(self, tensor: torch.Tensor) -> bool:
        return tensor.layout is torch.strided and tensor not in self._nodes and _memory(tensor) not in self._makers

    def _note_maker(self, func: Any, result: Any) -> None:
        if func is not FROM_PYTHON and any(returned.alias_info is not None for returned in func._schema.returns):
            return
        for tensor in result if isinstance(result, (list, tuple)) else (result,):
            if isinstance(tensor, torch.Tensor) and tensor.layout is torch.strided:
                self._makers[_memory(tensor)] = self._number
                self._lifted_memory.discard(_memory(tensor))

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
            found = self._lifted.get(tensor)
        if found is None:
            _require_dense(tensor)
            with self.graph.inserting_after(self._last_input) if self._last_input else self.graph.inserting_before():
                found = _described(self.graph.placeholder(f"constant_{len(self.constants)}"), tensor)
            self._last_input = found
            self._lifted[tensor] = found
            self._lifted_memory.add(_memory(tensor))
            self.constants.append(tensor.clone() if tensor._is_zerotensor() else tensor)
        return found

    def _remember(self, result: Any, node: Node) -> None:
        if isinstance(result, torch.Tensor):
            self._nodes[result] = _described(node, result)
        elif isinstance(result, (list, tuple)):
            for index, item in enumerate(result):
                if isinstance(item, torch.Tensor):
                    self._nodes[item] = _described(self.graph.call_function(operator.getitem, (node, index)), item)


VALUE_ADVICE = (
    "write it with tensor operations (torch.where, masks, cumulative products) in place of if, float() or .item()"
)


def trace(
    function: Callable[..., Sequence[torch.Tensor]], make_inputs: Callable[[], Sequence[torch.Tensor]]
) -> tuple[GraphModule, list[torch.Tensor], list[str]]:
    """Run a function and write down what it does; once more where it fills tensors of its own in place.

    Args:
        function: takes the inputs and returns tensors; it may change inputs in place.
        make_inputs: gives example values, the same at every call; none may be a view of another.

    Returns:
        The graph, whose inputs are those given and then the constants, and whose `meta["sources"]` holds the tensors
        from outside that it was made of, with their versions; the constants; the random operations in it.

    Raises:
        CaptureError: the function's Python reads the value of a tensor that depends on the inputs, or changes a tensor
            that is not its own.
    """
    buffers: frozenset[int] = frozenset()
    for _ in range(MOST_RUNS):
        inputs = make_inputs()
        tracer = Tracer(inputs, buffers)
        with torch.no_grad(), tracer:
            results = function(*inputs)
        if tracer.changed <= buffers:
            tracer.graph.output(tuple(tracer.node_of(result) for result in results))
            tracer.graph.eliminate_dead_code()
            constants = _used_constants(tracer.graph, len(inputs), tracer.constants)
            module = GraphModule(torch.nn.Module(), tracer.graph)
            module.meta["sources"] = tuple(tracer.sources.values())
            return module, constants, tracer.random
        buffers |= tracer.changed
    raise CaptureError("it changes tensors in place, other ones at every run")


def _used_constants(graph: Graph, num_inputs: int, constants: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    used = []
    for node, constant in zip(graph.find_nodes(op="placeholder")[num_inputs:], constants, strict=True):
        if node.users:
            used.append(constant)
        else:
            graph.erase_node(node)
    return used


def _require_dense(tensor: torch.Tensor) -> None:
    if tensor.layout is not torch.strided:
        raise CaptureError(f"a tensor has layout {tensor.layout}, and a graph takes dense ones alone")


def _memory(tensor: torch.Tensor) -> int:
    """Where a tensor's elements are; 0 where it has none, or torch has not yet written its zeros."""
    return 0 if tensor._is_zerotensor() else tensor.untyped_storage().data_ptr()


def _described(node: Node, tensor: torch.Tensor) -> Node:
    node.meta.update(shape=tuple(tensor.shape), stride=tuple(tensor.stride()), dtype=tensor.dtype)
    return node


def _name(func: Any) -> str:
    return str(func).removesuffix(".default")
