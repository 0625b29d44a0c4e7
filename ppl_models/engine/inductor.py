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

    def bind(self, state: Sequence[torch.Tensor], fixed: Sequence[torch.Tensor]) -> "InductorRunner":
        """Bind the code to tensors: the state, then what stays the same at every step."""
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
    if any(tensor.device.type == "cuda" for tensor in graph.inputs):
        options["triton.cudagraphs"] = True  # a small model would wait for its launches
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
