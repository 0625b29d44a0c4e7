"""The native backend: one shared object a graph, kept in the cache, run without Python."""

import hashlib
import tempfile
from collections import OrderedDict
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch

from ppl_models.engine.cache import Cache
from ppl_models.engine.graph import Graph
from ppl_models.engine.native.build import build, compiler_identity, cpp_compiler
from ppl_models.engine.native.library import Frame, Library, Pool
from ppl_models.engine.native.lowering import lower
from ppl_models.engine.native.source import generate
from ppl_models.errors import CaptureError, first_line

OBJECT = "step.so"
KEPT_LIBRARIES = 128

_loaded: OrderedDict[str, Library] = OrderedDict()


class NativeCode:
    """Compiled code of one graph."""

    def __init__(self, library: Library, num_inputs: int):
        self.library, self.num_inputs = library, num_inputs

    def bind(self, state: Sequence[torch.Tensor], fixed: Sequence[torch.Tensor]) -> "NativeRunner":
        """Bind the code to tensors: the state, then what stays the same at every step."""
        return NativeRunner(self.library, state, fixed, self.num_inputs)


class NativeRunner:
    """Compiled code with memory to run in."""

    def __init__(self, library: Library, state: Sequence[torch.Tensor], fixed: Sequence[torch.Tensor], num_inputs: int):
        self._library, self._state, self._fixed = library, tuple(state), tuple(fixed)
        self._num_inputs = num_inputs
        self._frame: Frame | None = None

    def run(
        self, count: int, streams: Sequence[torch.Tensor], results: Sequence[torch.Tensor], *, guard: bool = False
    ) -> int:
        """Run up to `count` steps; returns how many were made."""
        if not all(tensor.is_contiguous() for tensor in (*streams, *results)):
            raise ValueError("streams and results must be contiguous")
        if self._frame is None:
            self._frame = self._library.frame(self._bound(streams))
        return self._frame.run(count, streams, results, guard=guard)

    def pool(self, streams: Sequence[torch.Tensor], size: int) -> Pool:
        """The code as a density for several threads at once."""
        return self._library.pool(self._bound(streams), size)

    def _bound(self, streams: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        bound = (*self._state, *streams, *self._fixed)
        # The code would read behind the last of too few.
        assert len(bound) == self._num_inputs, f"{len(bound)} tensors for {self._num_inputs} inputs"
        return bound


class Native:
    """Inductor's kernels, called by generated C++."""

    name = "native"

    def available(self) -> str | None:
        """What is missing: a C++ compiler."""
        if cpp_compiler() is None:
            return "no C++ compiler found (set CXX, or install g++ or clang++)"
        return None

    def is_compiled(self, graph: Graph) -> bool:
        """Whether the code is loaded or cached."""
        key = _key(graph)
        return key in _loaded or Cache().get(key) is not None

    def compile(self, graph: Graph) -> NativeCode:
        """Take the graph's code from memory or from the cache, or generate and compile it."""
        if any(tensor.device.type != "cpu" for tensor in graph.inputs):
            raise CaptureError("the native backend runs on the CPU; backend='inductor' serves other devices")
        key = _key(graph)
        library = _loaded.get(key) or _from_cache(key)
        if library is None:
            cache = Cache()
            with cache.lock(key):
                # Another process may have compiled it while this one waited.
                library = _from_cache(key) or _compiled(graph, key, cache)
        _loaded[key] = library
        _loaded.move_to_end(key)
        while len(_loaded) > KEPT_LIBRARIES:
            _loaded.popitem(last=False)
        return NativeCode(library, len(graph.inputs))


@cache
def _own_source() -> str:
    """A hash of the code that generates code: what another version of it made is left alone."""
    here = Path(__file__).parent
    files = sorted([*here.glob("*.py"), *here.glob("*.hpp"), here.parent / "products.py"])
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def _key(graph: Graph) -> str:
    compiler = cpp_compiler()
    return graph.key(_own_source(), compiler_identity(compiler) if compiler else "")


def _from_cache(key: str) -> Library | None:
    folder = Cache().get(key)
    try:
        return Library(folder / OBJECT) if folder else None
    except CaptureError:
        return None  # cleared by another process since


def _compiled(graph: Graph, key: str, cache: Cache) -> Library:
    examples = [_apart(tensor) for tensor in graph.inputs]
    streams = range(graph.num_state, graph.num_state + graph.num_streams)
    try:
        content = build(generate(lower(graph.module, examples, graph.num_threads), streams, density=graph.density))
    except CaptureError:
        raise
    except Exception as error:
        # Inductor refuses what it does not know in many ways.
        raise CaptureError(f"inductor cannot lower it: {type(error).__name__}: {first_line(error)}") from error
    folder = cache.put(key, {OBJECT: content})
    if folder is not None:
        return Library(folder / OBJECT)
    # The cache cannot be written: the object serves this process alone, and needs no name once it is loaded.
    with tempfile.TemporaryDirectory(prefix="ppl-models-") as temporary:
        path = Path(temporary) / OBJECT
        path.write_bytes(content)
        return Library(path)


def _apart(tensor: torch.Tensor) -> torch.Tensor:
    """A copy with memory of its own and the same strides."""
    copy = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype)
    return copy.copy_(tensor)
