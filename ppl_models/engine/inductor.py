"""The inductor backend: the captured graph compiled in this process by torch, called from Python step by step."""

import copy
import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ppl_models.engine.graph import Graph
from ppl_models.engine.native.build import cpp_compiler
from ppl_models.errors import CaptureError, first_line

KEPT_GRAPHS = 32
_compiled: OrderedDict[str, Callable[..., Any]] = OrderedDict()


class InductorCode:
    """Compiled code of one graph."""

    def __init__(self, function: Callable[..., Any]):
        self.function = function

    def bind(self, state: Sequence[torch.Tensor], fixed: Sequence[torch.Tensor]) -> "InductorRunner | CudaRunner":
        """Bind the code to tensors: the state, then what stays the same at every step."""
        if any(tensor.device.type == "cuda" for tensor in (*state, *fixed)):
            return CudaRunner(self.function, state, fixed)
        return InductorRunner(self.function, state, fixed)


class InductorRunner:
    """Compiled code, called once a step."""

    def __init__(self, function: Callable[..., Any], state: Sequence[torch.Tensor], fixed: Sequence[torch.Tensor]):
        self._function, self._state, self._fixed = function, tuple(state), tuple(fixed)

    def run(
        self, count: int, streams: Sequence[torch.Tensor], results: Sequence[torch.Tensor], *, guard: bool = False
    ) -> int:
        """Run up to `count` steps; returns how many were made."""
        with torch.no_grad():
            for step in range(count):
                found = self._function(*self._state, *(stream[step] for stream in streams), *self._fixed)
                for result, value in zip(results, found, strict=True):
                    result[step] = value
                if guard and not bool(torch.isfinite(results[0][step])):
                    return step + 1
        return count


class CudaRunner:
    """Compiled code as one CUDA graph, which is replayed once a step: a small model would wait for its launches.

    The graph reads and writes tensors at fixed places, so a step's streams are copied there first. It is not stopped
    inside a chunk; that a result is not finite is seen at the end.
    """

    WARM_UP = 3

    def __init__(self, function: Callable[..., Any], state: Sequence[torch.Tensor], fixed: Sequence[torch.Tensor]):
        self._function, self._state, self._fixed = function, tuple(state), tuple(fixed)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._streams: list[torch.Tensor] = []
        self._found: list[torch.Tensor] = []

    def run(
        self, count: int, streams: Sequence[torch.Tensor], results: Sequence[torch.Tensor], *, guard: bool = False
    ) -> int:
        """Run `count` steps; returns how many were made up to the first that is not finite."""
        with torch.no_grad():
            if self._graph is None:
                self._graph = self._captured(streams)
            for step in range(count):
                for place, stream in zip(self._streams, streams, strict=True):
                    place.copy_(stream[step], non_blocking=True)
                self._graph.replay()
                for result, value in zip(results, self._found, strict=True):
                    result[step].copy_(value, non_blocking=True)
        bad = torch.nonzero(~torch.isfinite(results[0][:count].reshape(count, -1)).all(1)) if guard else []
        return int(bad[0]) + 1 if len(bad) else count

    def _captured(self, streams: Sequence[torch.Tensor]) -> torch.cuda.CUDAGraph:
        self._streams = [stream[0].clone() for stream in streams]
        before = [value.clone() for value in self._state]
        inputs = (*self._state, *self._streams, *self._fixed)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(self.WARM_UP):
                self._function(*inputs)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._found = list(self._function(*inputs))
        for value, old in zip(self._state, before, strict=True):
            value.copy_(old)
        return graph


class Inductor:
    """Compiles with `torch._inductor`: C++ for the CPU, Triton and CUDA graphs for a GPU."""

    name = "inductor"

    def available(self) -> str | None:
        """What is missing: a C++ compiler, or torch's inductor."""
        if not hasattr(torch, "_inductor") and not hasattr(torch, "compile"):
            return "torch has no inductor"
        if cpp_compiler() is None:
            return "no C++ compiler found (set CXX, or install g++ or clang++)"
        return None

    def is_compiled(self, graph: Graph) -> bool:
        """Whether this process has compiled it."""
        return graph.key() in _compiled

    def compile(self, graph: Graph) -> InductorCode:
        """Compile a graph, or take it from this process's memory."""
        key = graph.key()
        if key not in _compiled:
            _compiled[key] = _compile(graph)
        _compiled.move_to_end(key)
        while len(_compiled) > KEPT_GRAPHS:
            _compiled.popitem(last=False)
        return InductorCode(_compiled[key])


def _compile(graph: Graph) -> Callable[..., Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about itself
        from torch._inductor import config
        from torch._inductor.compile_fx import compile_fx

    options: dict[str, Any] = {"cpp.threads": graph.num_threads, "fallback_random": True}
    examples = [tensor.clone() for tensor in graph.inputs]
    try:
        with warnings.catch_warnings(), config.patch(options), torch.no_grad():
            warnings.simplefilter("ignore")
            compiled: Any = compile_fx(torch.fx.GraphModule(graph.module, copy.deepcopy(graph.module.graph)), examples)
            return compiled
    except Exception as error:
        # A failing compiler reports in many ways; the last line is what a person can act on.
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise CaptureError(f"the compiler failed: {(lines or [first_line(error)])[-1].rstrip('.')}") from error
