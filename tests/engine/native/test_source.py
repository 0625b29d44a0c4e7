"""The C++ that is generated for a plan, as text: what is in it, and how numbers are written."""

import math
import re

import pytest
import torch

from ppl_models.engine.native.plan import Address, Kernel, KernelCall, Layout, OperatorCall, Optional, Plan
from ppl_models.engine.native.source import generate

KERNEL = Kernel(
    ("const double*", "double*"),
    '#include <cmath>\n#include "header.h"\nextern "C" void  kernel(const double* a, double* b)\n{ b[0] = a[0]; }',
)


def vector(address, size=2, dtype=torch.float64):
    return Layout(address, (size,), (1,), dtype)


STATE, STREAM, ARENA = Address(0, 0), Address(1, 0), Address(None, 64)
CALL = KernelCall(0, (STREAM, ARENA))


RESULTS = (vector(ARENA),)


def plan(*calls, kernels=(KERNEL,), outputs=RESULTS):
    return Plan(kernels, calls, 128, (vector(STATE), vector(STREAM)), outputs)


def operator(*arguments, name="aten::sort", overload="", results=RESULTS):
    return OperatorCall(name, overload, arguments, results)


def constant(source, name):
    return re.search(rf"{name}(?:\[\])? = (.*);", source).group(1)


def test_kernels_get_names_of_their_own():
    source = generate(plan(CALL, KernelCall(1, (ARENA, STATE)), kernels=(KERNEL, KERNEL)), [1])
    assert 'extern "C" void  kernel(' not in source
    assert "static void kernel_0(const double* a" in source
    assert "static void kernel_1(const double* a" in source
    assert source.count('#include "header.h"') == 1
    step = source[source.index("static void step(") :]
    assert "kernel_0((const double*)(frame.inputs[1] + 0), (double*)(frame.arena + 64));" in step
    assert step.index("kernel_0(") < step.index("kernel_1((const double*)(frame.arena + 64)")


def test_sizes_stand_in_constants():
    source = generate(plan(CALL, outputs=(vector(ARENA, 1), vector(STATE))), [1])
    assert constant(source, "NUM_INPUTS") == "2"
    assert constant(source, "NUM_STREAMS") == "1"
    assert constant(source, "NUM_RESULTS") == "2"
    assert constant(source, "STREAM_BYTES") == "{16}"
    assert constant(source, "RESULT_BYTES") == "{8, 16}"
    assert constant(source, "FIRST_RESULT_IS_DOUBLE") == "true"
    single = generate(plan(CALL, outputs=(vector(ARENA, dtype=torch.float32),)), [1])
    assert constant(single, "FIRST_RESULT_IS_DOUBLE") == "false"


def test_streams_of_kernels_are_read_where_they_are():
    source = generate(plan(CALL), [1])
    assert constant(source, "STREAM_SLOT") == "{-1}"
    assert constant(source, "ARENA_BYTES") == "128"


@pytest.mark.parametrize("density", [True, False])
def test_streams_of_operators_and_points_are_copied(density):
    call = CALL if density else operator(vector(STREAM))
    source = generate(plan(call), [1], density=density)
    assert constant(source, "STREAM_SLOT") == "{128}"
    assert constant(source, "ARENA_BYTES") == "192"


def test_only_what_is_needed_is_there():
    plain, called = generate(plan(CALL), [1]), generate(plan(operator(vector(STATE))), [1])
    assert "torch_call_dispatcher" not in plain
    assert "torch_call_dispatcher" in called
    assert "ppl_density" not in plain
    assert "ppl_density" in generate(plan(CALL), [1], density=True)
    assert "ppl_run" in plain


def test_arguments_of_operators():
    call = operator(
        vector(STATE),
        Optional(vector(STREAM)),
        Optional(None),
        Optional(2),
        True,
        -3,
        0.1,
        overload="stable",
        results=(vector(ARENA), None),
    )
    source = generate(plan(call), [1])
    assert (
        "Value stack[7] = {lend(frame.tensors[0]), present(lend(frame.tensors[1])), absent(), "
        "present(pack(int64_t(2))), pack(true), pack(int64_t(-3)), pack(0.1)};"
    ) in source
    assert 'call("aten::sort", "stable", stack);' in source
    assert "receive(stack[0], frame.tensors[2]); receive(stack[1], nullptr);" in source
    assert "Tensor tensors[3];" in source
    assert "make_tensor(frame.tensors[1], (frame.inputs[1] + 0), 1, {2}, {1}, 7)" in source


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e-300, "1e-300"), (0.1, "0.1"), (math.inf, "INFINITY"), (-math.inf, "-INFINITY"), (math.nan, "NAN")],
)
def test_numbers_are_written_in_full(value, text):
    assert f"pack({text})" in generate(plan(operator(vector(STATE), value)), [1])


def test_products_are_called_directly():
    source = generate(plan(operator(vector(STATE), vector(STATE), vector(ARENA), name="aten::mm", overload="out")), [1])
    assert "require(aoti_torch_cpu_mm_out(frame.tensors[0], frame.tensors[1], frame.tensors[2]));" in source
