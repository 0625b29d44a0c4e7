"""A compiled shared object, called through ctypes, which lets go of Python's lock while it runs."""

import ctypes
import weakref
from collections.abc import Sequence
from pathlib import Path

import torch

from ppl_models.errors import CaptureError

Pointer = ctypes.c_void_p


class Library:
    """The functions of one shared object.

    Args:
        path: the shared object.
    """

    def __init__(self, path: Path):
        try:
            self._functions = ctypes.CDLL(str(path))
        except OSError as error:
            raise CaptureError(f"the compiled code cannot be loaded: {error}") from error
        _declare(self._functions, "ppl_frame_new", Pointer, [Pointer])
        _declare(self._functions, "ppl_frame_delete", None, [Pointer])
        _declare(self._functions, "ppl_run", ctypes.c_int64, [Pointer, ctypes.c_int64, Pointer, Pointer, ctypes.c_int])

    def frame(self, bound: Sequence[torch.Tensor]) -> "Frame":
        """Memory to run in, bound to the inputs that stay where they are."""
        return Frame(self._functions, bound)

    def pool(self, bound: Sequence[torch.Tensor], size: int) -> "Pool":
        """Memory for several callers at once of a density."""
        return Pool(self._functions, bound, size)


class Frame:
    """One caller's memory; the tensors that it is bound to are kept alive and are changed in place."""

    def __init__(self, functions: ctypes.CDLL, bound: Sequence[torch.Tensor]):
        self._functions, self.bound = functions, tuple(bound)
        self._handle = functions.ppl_frame_new(_pointers(bound))
        if not self._handle:
            raise CaptureError("no memory for the compiled code")
        weakref.finalize(self, functions.ppl_frame_delete, self._handle)

    def run(
        self, count: int, streams: Sequence[torch.Tensor], results: Sequence[torch.Tensor], *, guard: bool = False
    ) -> int:
        """Run up to `count` steps.

        Args:
            count: how many.
            streams: contiguous, shape (step, ...), one slice a step.
            results: filled, shape (step, ...).
            guard: stop behind a step whose first result is not finite.

        Returns:
            The number of steps made.
        """
        made = self._functions.ppl_run(self._handle, count, _pointers(streams), _pointers(results), int(guard))
        if made < 0:
            raise RuntimeError("an operator of torch failed in the compiled code")
        return made


class Pool:
    """A density for several threads; `density` and `expand` are addresses of C functions, `user_data` their state."""

    def __init__(self, functions: ctypes.CDLL, bound: Sequence[torch.Tensor], size: int):
        _declare(functions, "ppl_pool_new", Pointer, [Pointer, ctypes.c_int])
        _declare(functions, "ppl_pool_delete", None, [Pointer])
        _declare(functions, "ppl_pool_calls", ctypes.c_int64, [Pointer])
        self._functions, self.bound = functions, tuple(bound)
        self.user_data = functions.ppl_pool_new(_pointers(bound), size)
        if not self.user_data:
            raise CaptureError("no memory for the compiled code")
        weakref.finalize(self, functions.ppl_pool_delete, self.user_data)
        self.density = _address(functions.ppl_density)
        self.expand = _address(functions.ppl_expand)

    @property
    def calls(self) -> int:
        """How often the density was evaluated."""
        return self._functions.ppl_pool_calls(self.user_data)


def _declare(functions: ctypes.CDLL, name: str, result: type | None, arguments: list[type]) -> None:
    function = getattr(functions, name)
    function.restype, function.argtypes = result, arguments


def _pointers(tensors: Sequence[torch.Tensor]) -> ctypes.Array:
    return (Pointer * max(len(tensors), 1))(*[tensor.data_ptr() for tensor in tensors])


def _address(function: object) -> int:
    return ctypes.cast(function, Pointer).value or 0  # pyright: ignore[reportArgumentType]
