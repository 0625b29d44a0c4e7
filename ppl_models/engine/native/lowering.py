"""From a graph of ATen operations to a plan: torch's inductor writes the kernels, and its calls are written down.

Inductor generates a C++ kernel for every fused group of operations, and a Python function that calls them and torch's
own operators, one after the other, on tensors of fixed shapes. That function is run once with stand-ins for the kernels
that note the addresses they are called with. What they note is the same at every call, as for a CUDA graph.
"""

import copy
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import Any
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from ppl_models.engine.native.plan import (
    DIRECT_OPERATORS,
    Address,
    Kernel,
    KernelCall,
    Layout,
    OperatorCall,
    Optional,
    Plan,
)
from ppl_models.errors import CaptureError

ALIGNMENT = 64
MAX_ARENA_BYTES = 2**31


def lower(module: torch.fx.GraphModule, inputs: Sequence[torch.Tensor], num_threads: int) -> Plan:
    """Generate kernels for a graph and note how they are called.

    Args:
        module: a graph of ATen operations; it may change inputs in place.
        inputs: example values, each with memory of its own.
        num_threads: OpenMP threads that a kernel may use.

    Raises:
        CaptureError: inductor does not know an operation, or the graph needs what a plan cannot hold.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about itself
        from torch._inductor import config
        from torch._inductor.async_compile import AsyncCompile
        from torch._inductor.compile_fx import compile_fx

    recorder = Recorder(inputs)
    internals: Any = torch._C
    guards = internals._dynamo.guards

    def stand_in(_: Any, types: Sequence[str], source: str) -> KernelStandIn:
        return recorder.kernel(types, source)

    options = {
        "fx_graph_cache": False,
        "cpp.threads": num_threads,
        "cpp.dynamic_threads": False,
        "cpp_wrapper": False,
        "fallback_random": True,  # torch's generator, as eager
    }
    with (
        torch.no_grad(),
        warnings.catch_warnings(),
        config.patch(options),
        LOWERING,  # torch is one for the whole process
        patch("torch._C._dynamo.guards._empty_strided_cpu", mine(zeroed, guards._empty_strided_cpu)),
        patch.object(AsyncCompile, "cpp_pybinding", mine(stand_in, AsyncCompile.cpp_pybinding)),
    ):
        warnings.simplefilter("ignore")
        compiled: Any = compile_fx(torch.fx.GraphModule(module, copy.deepcopy(module.graph)), list(inputs))
        with recorder:
            outputs = compiled(*inputs)
    return recorder.plan(outputs)


LOWERING = threading.Lock()


def mine(stand_in: Callable[..., Any], original: Callable[..., Any]) -> Callable[..., Any]:
    """A stand-in for this thread; others, which may compile for themselves meanwhile, get the original."""
    owner = threading.get_ident()

    def chosen(*args: Any, **kwargs: Any) -> Any:
        return (stand_in if threading.get_ident() == owner else original)(*args, **kwargs)

    return chosen


class Recorder(TorchDispatchMode):
    """Notes kernels and operators called on tensors, and where these stand in memory."""

    def __init__(self, inputs: Sequence[torch.Tensor]):
        super().__init__()
        self.inputs = tuple(inputs)
        self.kernels: list[Kernel] = []
        self.calls: list[KernelCall | OperatorCall] = []
        self.kept: list[Any] = []  # memory that is still held cannot be given out twice
        self.arena_bytes = 0
        self._places: dict[int, Address] = {}
        self._written: set[int] = set()
        for index, tensor in enumerate(inputs):
            storage = tensor.untyped_storage().data_ptr()
            self._places[storage] = Address(index, 0)
            self._written.add(storage)

    def kernel(self, types: Sequence[str], source: str) -> "KernelStandIn":
        """A stand-in for a generated kernel."""
        self.kernels.append(Kernel(tuple(types), source))
        return KernelStandIn(self, len(self.kernels) - 1, tuple(types))

    def note_kernel(self, kernel: int, types: Sequence[str], arguments: Sequence[Any]) -> None:
        """Note one call of a kernel."""
        if not all(isinstance(value, torch.Tensor) for value in arguments):
            raise CaptureError("a kernel takes a number that is not known in advance")
        constant = [kind.startswith("const") for kind in types]
        for value, is_constant in zip(arguments, constant, strict=True):
            if not is_constant:
                self._mark_written(value)  # perhaps read further on in the same kernel
        for value, is_constant in zip(arguments, constant, strict=True):
            if is_constant:
                self._require_written(value)
        self.calls.append(KernelCall(kernel, tuple(self.address(value) for value in arguments)))

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        schema = func._schema
        if str(schema.name) in WITHOUT_EFFECT or _is_view(schema):
            result = func(*args, **kwargs)
            self.kept.append(result)
            return result
        if schema.name == "aten::_linalg_check_errors":
            return None
        result = func(*args, **kwargs)
        self.kept.append(result)
        named = list(args) + [kwargs.get(a.name, a.default_value) for a in schema.arguments[len(args) :]]
        for value in named:
            if isinstance(value, torch.Tensor) and not schema.is_mutable:
                self._require_written(value)
        results = result if isinstance(result, (tuple, list)) else (result,)
        layouts = []
        for value, declared in zip(results, schema.returns, strict=True):
            if not isinstance(value, torch.Tensor):
                raise CaptureError(f"operator {schema.name} does not return tensors")
            self._mark_written(value)
            mutated = declared.alias_info is not None
            layouts.append(None if mutated else self.layout(value))
        arguments = tuple(
            self._argument(schema, declared, v) for declared, v in zip(schema.arguments, named, strict=True)
        )
        self.calls.append(OperatorCall(schema.name, schema.overload_name, arguments, tuple(layouts)))
        return result

    def _argument(self, schema: Any, declared: Any, value: Any) -> Any:
        kind = str(declared.type)
        if isinstance(value, torch.Tensor):
            return Optional(self.layout(value)) if kind.startswith("Optional") else self.layout(value)
        if value is None or isinstance(value, (bool, int, float)):
            base = kind.removeprefix("Optional[").removesuffix("]")
            if (
                value is not None
                and base not in ("bool", "int", "float", "SymInt")
                and schema.name not in DIRECT_OPERATORS
            ):
                raise CaptureError(f"operator {schema.name} takes a {kind}")
            value = float(value) if base == "float" and value is not None else value
            return Optional(value) if kind.startswith("Optional") else value
        raise CaptureError(f"operator {schema.name} takes a {kind}")

    def address(self, tensor: torch.Tensor) -> Address:
        """Where a tensor stands, relative to an input or to the arena."""
        storage = tensor.untyped_storage()
        place = self._places.get(storage.data_ptr())
        if place is None:
            place = Address(None, self.arena_bytes)
            self._places[storage.data_ptr()] = place
            self.kept.append(tensor)
            self.arena_bytes += -(-storage.nbytes() // ALIGNMENT) * ALIGNMENT
            if self.arena_bytes > MAX_ARENA_BYTES:
                raise CaptureError(f"one step needs more than {MAX_ARENA_BYTES >> 30} GiB of memory")
        return Address(place.input, place.offset + int(tensor.storage_offset()) * tensor.element_size())

    def layout(self, tensor: torch.Tensor) -> Layout:
        """A tensor's address, shape and strides."""
        return Layout(self.address(tensor), tuple(tensor.shape), tuple(tensor.stride()), tensor.dtype)

    def plan(self, outputs: Sequence[torch.Tensor]) -> Plan:
        """Everything noted, with the tensors where the results stand."""
        for value in outputs:
            self._require_written(value)
        found = tuple(self.layout(value) for value in outputs)
        if not all(layout.contiguous for layout in found):
            raise CaptureError("a result of the graph is not contiguous")
        layouts = tuple(self.layout(tensor) for tensor in self.inputs)
        return Plan(tuple(self.kernels), tuple(self.calls), self.arena_bytes, layouts, found)

    def _mark_written(self, tensor: torch.Tensor) -> None:
        self.kept.append(tensor)
        self._written.add(tensor.untyped_storage().data_ptr())

    def _require_written(self, tensor: torch.Tensor) -> None:
        # A tensor that nothing wrote is a constant of inductor's own making, which the plan would not have.
        if tensor.numel() and tensor.untyped_storage().data_ptr() not in self._written:
            raise CaptureError("the graph holds a constant that is not among its inputs")


class KernelStandIn:
    """Takes a kernel's place in the generated Python function."""

    def __init__(self, recorder: Recorder, kernel: int, types: tuple[str, ...]):
        self.recorder, self.number, self.types = recorder, kernel, types

    def __call__(self, *arguments: Any) -> None:
        """Note the call."""
        self.recorder.note_kernel(self.number, self.types, arguments)


WITHOUT_EFFECT = {
    "aten::empty",
    "aten::empty_strided",
    "aten::empty_like",
    "aten::new_empty",
    "aten::new_empty_strided",
}


def _is_view(schema: Any) -> bool:
    return not schema.is_mutable and any(declared.alias_info is not None for declared in schema.returns)


def zeroed(shape: Sequence[int], stride: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """Memory for operators that run, on nonsense, while calls are noted."""
    with _disable_current_modes():  # it is no part of what is noted
        return torch.empty_strided(shape, stride, dtype=dtype).zero_()
