"""What a compiled graph does, step by step, in terms of memory: the input of the C++ that is generated for it."""

from dataclasses import dataclass

import torch

DIRECT_OPERATORS = {"aten::mm", "aten::bmm", "aten::addmm", "aten::baddbmm"}
"""Operators that torch also offers as plain C functions, which cost less to call."""


@dataclass(frozen=True)
class Address:
    """A place in memory: a byte offset from an input of the graph, or from the plan's own arena (`input` None)."""

    input: int | None
    offset: int


@dataclass(frozen=True)
class Layout:
    """A tensor at an address."""

    address: Address
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    @property
    def num_bytes(self) -> int:
        """Size of its elements, without gaps."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize

    @property
    def contiguous(self) -> bool:
        """Whether its elements stand in C order without gaps."""
        expected = 1
        for size, stride in zip(reversed(self.shape), reversed(self.stride), strict=True):
            if size != 1 and stride != expected:
                return False
            expected *= size
        return True


@dataclass(frozen=True)
class KernelCall:
    """A call of a generated kernel: pointers in the order of its parameters."""

    kernel: int
    arguments: tuple[Address, ...]


@dataclass(frozen=True)
class Kernel:
    """C++ source of one function named `kernel`, and the types of its parameters."""

    types: tuple[str, ...]
    source: str


@dataclass(frozen=True)
class Optional:
    """An argument that an operator declares optional, given or not."""

    value: "Layout | Scalar"


Scalar = bool | int | float | None


@dataclass(frozen=True)
class OperatorCall:
    """A call of one of torch's own operators, whose results are copied to where the kernels expect them."""

    name: str
    overload: str
    arguments: tuple[Layout | Scalar | Optional, ...]
    results: tuple[Layout | None, ...]


@dataclass(frozen=True)
class Plan:
    """A graph as calls in order.

    Attributes:
        kernels: the generated kernels.
        calls: what to call, in order.
        arena_bytes: memory for everything that is not an input.
        inputs: the inputs, in the order of the graph.
        outputs: where the results stand after the calls.
    """

    kernels: tuple[Kernel, ...]
    calls: tuple[KernelCall | OperatorCall, ...]
    arena_bytes: int
    inputs: tuple[Layout, ...]
    outputs: tuple[Layout, ...]
