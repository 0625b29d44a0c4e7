"""The lowering: what inductor's kernels and torch's operators are called with, written down as a plan."""

import itertools

import pytest
import torch

from ppl_models.engine.graph import capture
from ppl_models.engine.native.lowering import ALIGNMENT, lower
from ppl_models.engine.native.plan import DIRECT_OPERATORS, KernelCall, Layout, OperatorCall, Optional
from ppl_models.errors import CaptureError

HELD = torch.linspace(1.0, 2.0, 4, dtype=torch.float64)


def vectors(size=4):
    return [torch.linspace(first, 1.0, size, dtype=torch.float64) for first in (0.1, 0.5)]


def plan_of(function, *, state=(), streams=None):
    first, other = streams or vectors()
    graph = capture(function, state, [first], (), other_streams=[other])
    return lower(graph.module, [tensor.clone() for tensor in graph.inputs], 1)


def operators(plan):
    return [call.name for call in plan.calls if isinstance(call, OperatorCall)]


def layouts(call):
    values = [value.value if isinstance(value, Optional) else value for value in (*call.arguments, *call.results)]
    return [value for value in values if isinstance(value, Layout)]


def test_elementwise_operations_are_one_kernel():
    plan = plan_of(lambda x: ((x.exp() * HELD + 1).sqrt(),))
    assert [type(call) for call in plan.calls] == [KernelCall]
    (kernel,) = plan.kernels
    assert "kernel" in kernel.source
    assert kernel.types == ("const double*", "const double*", "double*")
    result = plan.outputs[0].address
    assert [address.input for address in plan.calls[0].arguments] == [0, 1, None]
    assert plan.calls[0].arguments[2] == result
    assert (plan.outputs[0].shape, plan.outputs[0].dtype) == ((4,), torch.float64)


def test_state_is_changed_where_it_stands():
    def step(total, x):
        total.add_(x * HELD)
        return (total.sum(),)

    plan = plan_of(step, state=(torch.zeros(4, dtype=torch.float64),))
    written = {
        address.input
        for call in plan.calls
        for kind, address in zip(plan.kernels[call.kernel].types, call.arguments, strict=True)
        if not kind.startswith("const")
    }
    assert 0 in written
    assert [layout.address.input for layout in plan.inputs] == [0, 1, 2]


def test_operators_of_torch_are_called_as_they_are():
    def step(x):
        matrix = torch.outer(x, x) + torch.eye(4, dtype=x.dtype)
        return (torch.linalg.cholesky(matrix).sum(), torch.sort(x)[0], matrix @ matrix)

    plan = plan_of(step)
    found = operators(plan)
    assert "aten::linalg_cholesky_ex" in found
    assert "aten::sort" in found
    assert "aten::_linalg_check_errors" not in found


def test_memory_of_one_result_is_no_memory_of_another():
    def step(x):
        matrix = torch.outer(x, x) + torch.eye(4, dtype=x.dtype)
        factor = torch.linalg.cholesky(matrix)
        return (torch.linalg.solve_triangular(factor, x[:, None], upper=False), factor.diagonal().log().sum())

    plan = plan_of(step)
    places = {}
    for call in plan.calls:
        if isinstance(call, OperatorCall):
            for layout in layouts(call):
                if layout.address.input is None:
                    places.setdefault(layout.address.offset, set()).add(layout.num_bytes)
                    assert layout.address.offset + layout.num_bytes <= plan.arena_bytes
    offsets = sorted(places)
    assert all(offset % ALIGNMENT == 0 for offset in offsets)
    assert all(first + max(places[first]) <= second for first, second in itertools.pairwise(offsets))
    assert plan.arena_bytes % ALIGNMENT == 0


def test_large_products_are_direct_calls():
    wide = torch.ones(128, 128, dtype=torch.float64)
    plan = plan_of(lambda x: ((wide * x) @ wide,), streams=vectors(128))
    assert set(operators(plan)) <= DIRECT_OPERATORS
    assert operators(plan)


def test_lowering_leaves_its_inputs_and_its_graph():
    def step(total, x):
        total.add_(x)
        return (total.exp(),)

    graph = capture(step, (torch.zeros(4, dtype=torch.float64),), vectors()[:1], (), other_streams=vectors()[1:])
    text = graph.text
    for _ in range(2):
        lower(graph.module, [tensor.clone() for tensor in graph.inputs], 1)
    assert graph.text == text
    assert not graph.state[0].any()


def test_threads_are_in_the_kernels():
    large = [torch.ones(200_000, dtype=torch.float64), torch.zeros(200_000, dtype=torch.float64)]
    graph = capture(lambda x: (x.exp().sum(),), (), large[:1], (), other_streams=large[1:])
    sources = [
        "".join(kernel.source for kernel in lower(graph.module, list(graph.inputs), threads).kernels)
        for threads in (1, 3)
    ]
    assert "num_threads(3)" in sources[1]
    assert "num_threads" not in sources[0]


def eigenvalues(x):
    return (torch.linalg.eigvalsh(torch.outer(x, x)),)


def spectrum(x):
    return (torch.fft.rfft(x).abs(),)


@pytest.mark.parametrize(("function", "reason"), [(eigenvalues, "takes a str"), (spectrum, "takes a List")])
def test_operators_with_arguments_that_a_plan_cannot_hold_are_refused(function, reason):
    with pytest.raises(CaptureError, match=f"operator aten::.* {reason}"):
        plan_of(function)


def test_a_step_that_needs_too_much_memory_is_refused(monkeypatch):
    from ppl_models.engine.native import lowering

    monkeypatch.setattr(lowering, "MAX_ARENA_BYTES", 64)
    with pytest.raises(CaptureError, match="memory"):
        plan_of(lambda x: (torch.outer(x, x), x.sum()))


def test_results_that_have_gaps_are_refused():
    with pytest.raises(CaptureError, match="not contiguous"):
        plan_of(lambda x: (torch.outer(x, x).mT,))
