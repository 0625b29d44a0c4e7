"""A function of tensors captured as a graph, with everything that its code depends on."""

import contextlib
import hashlib
import io
import random
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch.fx import GraphModule, Node

from ppl_models.engine.products import use_matrix_products
from ppl_models.engine.tracing import VALUE_ADVICE, trace
from ppl_models.errors import CaptureError, first_line

MAX_NODES = 6_000
"""Larger graphs (unrolled loops) would take minutes to compile."""


@dataclass(frozen=True)
class Graph:
    """One step as ATen operations: state and streams and fixed inputs go in, results come out, the state is changed.

    Attributes:
        module: the operations; its inputs are the state, the streams, the data and the constants, in this order.
        num_state: inputs that a step changes in place.
        num_streams: inputs that are new at every step.
        state: example values of the state.
        streams: example values of one step's streams.
        fixed: the data, and then the constants that the function made or held.
        random: the random operations that the graph holds itself; they use torch's generator.
        num_threads: threads that one step may use.
        density: whether it is a log density: one stream, no state, and value and gradient as results.
    """

    module: GraphModule = field(repr=False)
    num_state: int
    num_streams: int
    state: tuple[torch.Tensor, ...] = field(repr=False)
    streams: tuple[torch.Tensor, ...] = field(repr=False)
    fixed: tuple[torch.Tensor, ...] = field(repr=False)
    random: tuple[str, ...]
    num_threads: int
    density: bool = False

    def is_current(self) -> bool:
        """Whether no tensor that it was made of, and that is no input, has been changed in place since."""
        return all(tensor._version == version for tensor, version in self.module.meta["sources"])

    @property
    def inputs(self) -> tuple[torch.Tensor, ...]:
        """Example values of all inputs."""
        return (*self.state, *self.streams, *self.fixed)

    @cached_property
    def text(self) -> str:
        """The graph written out: operations, numbers in them, shapes and dtypes of inputs; no value of an input."""
        names: dict[Node, str] = {}
        lines = [f"state {self.num_state} streams {self.num_streams} threads {self.num_threads} {self.density}"]
        inputs = iter(self.inputs)
        for number, node in enumerate(self.module.graph.nodes):
            names[node] = f"%{number}"
            if node.op == "placeholder":
                tensor = next(inputs)
                shape, stride = tuple(tensor.shape), tuple(tensor.stride())
                lines.append(f"%{number} = input {tensor.dtype} {shape} {stride} {tensor.device}")
            else:
                lines.append(f"%{number} = {node.target} {_written((node.args, node.kwargs), names)}")
        return "\n".join(lines)

    def key(self, *others: str) -> str:
        """A hash of the graph and of what else decides about its code, as 64 hex digits."""
        return hashlib.sha256("\n".join((self.text, *others)).encode()).hexdigest()


def _written(value: Any, names: dict[Node, str]) -> str:
    if isinstance(value, Node):
        return names[value]
    if isinstance(value, (tuple, list)):
        return "(" + ", ".join(_written(item, names) for item in value) + ")"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_written(item, names)}" for key, item in sorted(value.items())) + "}"
    return f"{type(value).__name__} {value!r}"


Function = Callable[..., Sequence[torch.Tensor]]


def capture(
    function: Function,
    state: Sequence[torch.Tensor],
    streams: Sequence[torch.Tensor],
    data: Sequence[torch.Tensor],
    *,
    other_streams: Sequence[torch.Tensor],
    num_threads: int = 1,
    density: bool = False,
) -> Graph:
    """Run a function twice and write down what it does, if it does the same twice.

    Args:
        function: takes the state, which it changes in place, and the streams; returns tensors.
        state: starting values.
        streams: one step's streams.
        data: tensors that the function holds, whose values the graph must not depend on.
        other_streams: streams of the second run.
        num_threads: threads that a compiled step may use.
        density: whether the function is a log density.

    Raises:
        CaptureError: the function reads values of tensors, prints, draws from a generator other than torch's, changes
            from one run to the next, is too long, or fails; the message says which, and where in the user's code.
    """
    data = _distinct(data)
    first = _run(function, state, streams, data, num_threads, density)
    second = _run(function, state, other_streams, data, num_threads, density)
    if first.text != second.text or not _same(first.fixed, second.fixed):
        raise CaptureError(
            "model or guide does not do the same twice: it changes Python state, or reads the value of a tensor. "
            "Pass what changes as data, and keep counters and schedules out of it"
        )
    num_nodes = len(first.module.graph.nodes)
    if num_nodes > MAX_NODES:
        raise CaptureError(
            f"one step has {num_nodes:,} operations, more than {MAX_NODES:,}; vectorise the model's Python loops"
        )
    return first


def _run(
    function: Function,
    state: Sequence[torch.Tensor],
    streams: Sequence[torch.Tensor],
    data: Sequence[torch.Tensor],
    num_threads: int,
    density: bool,
) -> Graph:
    num_given = len(state) + len(streams)

    def inputs() -> tuple[torch.Tensor, ...]:
        return (*(value.detach().clone() for value in state), *streams, *data)

    try:
        with _no_side_effects(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module, constants, drawn = trace(lambda *values: function(*values[:num_given]), inputs)
    except CaptureError as error:
        raise CaptureError(f"{first_line(error)}{_place(error)}") from error
    except Exception as error:
        # Any operation may refuse to be traced, each in its own way; eager runs them all.
        raise CaptureError(f"{_cause(error)}{_place(error)}") from error
    use_matrix_products(module)
    fixed = (*data, *(constant.detach().contiguous() for constant in constants))
    begun = tuple(value.detach().clone() for value in state)
    return Graph(module, len(state), len(streams), begun, tuple(streams), fixed, tuple(drawn), num_threads, density)


def _cause(error: Exception) -> str:
    if "data-dependent control flow" in str(error) or ".item()" in str(error):
        return f"its Python code reads the value of a tensor: {VALUE_ADVICE}"
    return f"{type(error).__name__}: {first_line(error)}"


def _distinct(tensors: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    found = {id(tensor): tensor for tensor in tensors if tensor.numel()}
    return tuple(found.values())


def _same(first: Sequence[torch.Tensor], second: Sequence[torch.Tensor]) -> bool:
    return len(first) == len(second) and all(
        a is b or torch.equal(a, b) or bool(((a == b) | (a.isnan() & b.isnan())).all())
        for a, b in zip(first, second, strict=True)
    )


@contextlib.contextmanager
def _no_side_effects() -> Any:
    """Raise where the code inside prints, or draws from Python's or NumPy's generator."""
    printed = _Watched(sys.stdout)
    before = random.getstate(), _numpy_state()
    with contextlib.redirect_stdout(printed):
        yield
    if printed.place is not None:
        raise CaptureError(f"model or guide prints{printed.place}; compiled, it would print no more")
    if before != (random.getstate(), _numpy_state()):
        raise CaptureError("model or guide draws from Python's or NumPy's generator; draw with torch or pyro.sample")


def _numpy_state() -> tuple[bytes, int]:
    state: Any = np.random.get_state()  # noqa: NPY002
    return state[1].tobytes(), state[2]


class _Watched(io.TextIOBase):
    """Passes text on, and remembers that there was some."""

    def __init__(self, target: Any):
        self.target = target
        self.place: str | None = None

    def write(self, text: str) -> int:
        if self.place is None:
            self.place = _place_of(frame for frame, _ in traceback.walk_stack(None))
        return self.target.write(text)

    def flush(self) -> None:
        self.target.flush()


LIBRARIES = ("torch", "pyro", "ppl_models", "functorch")


def _place(error: BaseException) -> str:
    """Where in the user's code an error came from, as ` (model.py, line 12)`."""
    lines = [(step.filename, step.lineno) for step in traceback.extract_tb(error.__traceback__)]
    return _first_users(reversed(lines))


def _place_of(frames: Iterable[FrameType]) -> str:
    return _first_users((frame.f_code.co_filename, frame.f_lineno) for frame in frames)


def _first_users(lines: Iterable[tuple[str, int | None]]) -> str:
    for name, line in lines:
        path = Path(name)
        if path.suffix == ".py" and not {*LIBRARIES, "lib"} & {*path.parts[:-1]}:
            return f" ({path.name}, line {line})"
    return ""
