"""From a plan to C++: one file with the kernels, their calls in a row, and the loop around them."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

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

DRIVERS = {
    name: Path(__file__).with_name(name) for name in ("operators.hpp", "vectors.hpp", "driver.hpp", "density.hpp")
}
OPERATORS = ("operators.hpp", "vectors.hpp")
ALIGNMENT = 64
LARGEST_LOOP = 300_000
"""Elements of matrix times vector up to which our own loops are quicker than a call of BLAS."""
DTYPE_CODES = {
    torch.uint8: 0,
    torch.int8: 1,
    torch.int16: 2,
    torch.int32: 3,
    torch.int64: 4,
    torch.float32: 6,
    torch.float64: 7,
    torch.bool: 11,
}
"""torch's own numbers of its dtypes (c10/core/ScalarType.h)."""


def generate(plan: Plan, streams: Sequence[int], density: bool = False) -> str:
    """The C++ of a plan.

    Args:
        plan: what to call.
        streams: inputs that are new at every step; the others stay where they are.
        density: add the function that nutpie calls; the only stream is the point, the results value and gradient.
    """
    operators = [call for call in plan.calls if isinstance(call, OperatorCall)]
    writer = _Writer(plan, tuple(streams), operators, copied=density)
    parts = [_includes(plan.kernels), *(DRIVERS[name].read_text() for name in OPERATORS if operators)]
    parts += [_kernel(number, kernel) for number, kernel in enumerate(plan.kernels)]
    parts += [writer.constants(), writer.frame(), writer.step(), DRIVERS["driver.hpp"].read_text()]
    if density:
        parts.append(DRIVERS["density.hpp"].read_text())
    return "\n".join(parts)


def _includes(kernels: Sequence[Kernel]) -> str:
    lines = {line for kernel in kernels for line in kernel.source.splitlines() if line.startswith("#include")}
    return "\n".join(["#include <cmath>", "#include <cstdint>", "#include <cstring>", *sorted(lines)])


def _kernel(number: int, kernel: Kernel) -> str:
    source = "\n".join(line for line in kernel.source.splitlines() if not line.startswith("#include"))
    renamed, count = re.subn(r'extern\s+"C"\s+void\s+kernel\s*\(', f"static void kernel_{number}(", source)
    assert count == 1, "inductor names every kernel `kernel`"
    return renamed


class _Writer:
    def __init__(self, plan: Plan, streams: tuple[int, ...], operators: Sequence[OperatorCall], copied: bool):
        self.plan, self.streams = plan, streams
        self.tensors: list[Layout] = []
        used = {
            layout.address.input for call in operators for layout in _layouts(call) if layout.address.input is not None
        }
        self.slots, self.arena = [], max(plan.arena_bytes, ALIGNMENT)
        for stream in streams:
            # torch's tensors stay where they are made, so a stream that an operator reads is copied there.
            fixed = copied or stream in used
            self.slots.append(self.arena if fixed else -1)
            self.arena += -(-plan.inputs[stream].num_bytes // ALIGNMENT) * ALIGNMENT if fixed else 0

    def constants(self) -> str:
        sizes = [self.plan.inputs[stream].num_bytes for stream in self.streams]
        outputs = self.plan.outputs
        return "\n".join(
            [
                f"constexpr int NUM_INPUTS = {len(self.plan.inputs)};",
                f"constexpr int NUM_STREAMS = {len(self.streams)};",
                f"constexpr int NUM_RESULTS = {len(outputs)};",
                f"constexpr size_t ARENA_BYTES = {self.arena};",
                f"constexpr bool FIRST_RESULT_IS_DOUBLE = {_bool(outputs[0].dtype == torch.float64)};",
                _array("STREAMS", self.streams),
                _array("STREAM_BYTES", sizes),
                _array("STREAM_SLOT", self.slots),
                _array("RESULT_BYTES", [output.num_bytes for output in outputs]),
            ]
        )

    def step(self) -> str:
        lines = [self._kernel_call(c) if isinstance(c, KernelCall) else self._operator_call(c) for c in self.plan.calls]
        body = "\n".join(f"  {line}" for line in lines)
        results = "\n".join(
            f"    case {i}: return {_pointer(output.address)};" for i, output in enumerate(self.plan.outputs)
        )
        return (
            f"{self._bind()}\nstatic void step(Frame& frame) {{\n{body}\n}}\n"
            f"static char* result(const Frame& frame, int which) {{\n  switch (which) {{\n{results}\n  }}\n"
            "  return nullptr;\n}"
        )

    def frame(self) -> str:
        count = sum(len(_layouts(call)) for call in self.plan.calls if isinstance(call, OperatorCall))
        tensors = f"\n  Tensor tensors[{count}];" if count else ""
        return f"struct Frame {{\n  char* arena;\n  char* inputs[NUM_INPUTS];{tensors}\n}};"

    def _bind(self) -> str:
        lines = []
        for number, layout in enumerate(self.tensors):
            shape, stride = _braces(layout.shape), _braces(layout.stride)
            lines.append(
                f"  if (!make_tensor(frame.tensors[{number}], {_pointer(layout.address)}, {len(layout.shape)}, "
                f"{shape}, {stride}, {DTYPE_CODES[layout.dtype]})) return false;"
            )
        freed = "  for (Tensor& tensor : frame.tensors) delete_tensor(tensor);" if lines else ""
        return (
            "static bool bind([[maybe_unused]] Frame& frame) {\n"
            + "\n".join([*lines, "  return true;"])
            + f"\n}}\nstatic void release([[maybe_unused]] Frame& frame) {{\n{freed}\n}}"
        )

    def _kernel_call(self, call: KernelCall) -> str:
        types = self.plan.kernels[call.kernel].types
        arguments = (f"({kind}){_pointer(a)}" for kind, a in zip(types, call.arguments, strict=True))
        return f"kernel_{call.kernel}({', '.join(arguments)});"

    def _operator_call(self, call: OperatorCall) -> str:
        if (vector := _vector_product(call)) is not None:
            return vector
        if call.name in DIRECT_OPERATORS and call.overload == "out":
            *operands, out = call.arguments
            values = [self._tensor(v) if isinstance(v, Layout) else _double(v) for v in (out, *operands)]
            return f"require(aoti_torch_cpu_{call.name.removeprefix('aten::')}_out({', '.join(values)}));"
        arguments = ", ".join(self._argument(value) for value in call.arguments)
        results = "".join(
            f" receive(stack[{i}], {'nullptr' if layout is None else self._tensor(layout)});"
            for i, layout in enumerate(call.results)
        )
        size = max(len(call.arguments), len(call.results), 1)
        return f'{{ Value stack[{size}] = {{{arguments}}}; call("{call.name}", "{call.overload}", stack);{results} }}'

    def _argument(self, value: object) -> str:
        if isinstance(value, Optional):
            return "absent()" if value.value is None else f"present({self._argument(value.value)})"
        if isinstance(value, Layout):
            return f"lend({self._tensor(value)})"
        if isinstance(value, bool):
            return f"pack({_bool(value)})"
        if isinstance(value, int):
            return f"pack(int64_t({value}))"
        assert isinstance(value, float), "the lowering admits no other"
        return f"pack({_double(value)})"

    def _tensor(self, layout: Layout) -> str:
        self.tensors.append(layout)
        return f"frame.tensors[{len(self.tensors) - 1}]"


def _vector_product(call: OperatorCall) -> str | None:
    """A matrix product with a single column or row, written with `vectors.hpp`; None for other calls."""
    if call.name not in ("aten::mm", "aten::addmm") or call.overload != "out":
        return None
    layouts = [value for value in call.arguments if isinstance(value, Layout)]
    numbers = [value for value in call.arguments if isinstance(value, (int, float))]
    start, left, right, out = layouts if call.name == "aten::addmm" else (layouts[-1], *layouts)
    beta, alpha = numbers if call.name == "aten::addmm" else (0.0, 1.0)
    if 1 not in out.shape:
        return None
    if out.dtype not in (torch.float32, torch.float64) or math.prod(left.shape) + math.prod(right.shape) > LARGEST_LOOP:
        return None
    if out.shape[1] == 1:
        axis, matrix, (row, column), vector, summed = 0, left, left.stride, right, 0
    else:
        axis, matrix, (column, row), vector, summed = 1, right, right.stride, left, 1
    real = "double" if out.dtype == torch.float64 else "float"
    parts = (
        f"({real}*){_pointer(out.address)}, {out.stride[axis]}",
        f"({real}*){_pointer(start.address)}, {_broadcast_stride(start, axis)}",
        f"({real}*){_pointer(matrix.address)}, {row}, {column}",
        f"({real}*){_pointer(vector.address)}, {vector.stride[summed]}",
        f"{out.shape[axis]}, {vector.shape[summed]}, {_double(beta)}, {_double(alpha)}",
    )
    return f"matrix_times_vector<{real}>({', '.join(parts)});"


def _broadcast_stride(layout: Layout, axis: int) -> int:
    """The stride along an axis of a matrix that a tensor of one or two axes is broadcast to."""
    own = axis - (2 - len(layout.shape))
    return layout.stride[own] if own >= 0 and layout.shape[own] > 1 else 0


def _layouts(call: OperatorCall) -> list[Layout]:
    arguments = [value.value if isinstance(value, Optional) else value for value in call.arguments]
    return [value for value in (*arguments, *call.results) if isinstance(value, Layout)]


def _pointer(address: Address) -> str:
    base = "frame.arena" if address.input is None else f"frame.inputs[{address.input}]"
    return f"({base} + {address.offset})"


def _array(name: str, values: Sequence[int]) -> str:
    return f"constexpr int64_t {name}[] = {_braces(values or [0])};"


def _braces(values: Sequence[int]) -> str:
    return "{" + ", ".join(str(value) for value in values or [0]) + "}"


def _double(value: Any) -> str:
    if math.isfinite(value):
        return repr(float(value))
    return "NAN" if math.isnan(value) else "INFINITY" if value > 0 else "-INFINITY"


def _bool(value: bool) -> str:
    return "true" if value else "false"
