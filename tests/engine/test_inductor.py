"""The inductor backend: compiled once in a process, run step by step."""

import numpy as np
import pytest
import torch

from ppl_models.engine import inductor
from ppl_models.engine.graph import capture
from ppl_models.engine.inductor import Inductor
from ppl_models.errors import CaptureError

pytestmark = pytest.mark.native
DATA = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)


def walk(total, noise):
    total.add_(noise * DATA)
    return (total.sum().log(), total * 1)


def walked(scale=1.0):
    def step(total, noise):
        return walk(total, noise * scale)

    streams = [torch.full((3,), value, dtype=torch.float64) for value in (0.5, 1.5)]
    state = torch.zeros(3, dtype=torch.float64)
    return capture(step, (state,), streams[:1], (DATA,), other_streams=streams[1:])


@pytest.fixture
def memory(monkeypatch):
    """An empty memory of compiled code."""
    monkeypatch.setattr(inductor, "_compiled", type(inductor._compiled)())
    return inductor._compiled


def test_steps_change_the_state_and_fill_the_results():
    graph = walked()
    state, noise = torch.ones(3, dtype=torch.float64), torch.linspace(0.1, 2.0, 15, dtype=torch.float64).reshape(5, 3)
    runner = Inductor().compile(graph).bind((state,), graph.fixed)
    losses, path = torch.full((5,), torch.nan, dtype=torch.float64), torch.empty(5, 3, dtype=torch.float64)
    assert runner.run(5, [noise], [losses, path]) == 5
    wanted = 1 + (noise * DATA).cumsum(0)
    torch.testing.assert_close(path, wanted)
    torch.testing.assert_close(losses, wanted.sum(1).log())
    torch.testing.assert_close(state, wanted[-1])


def test_guarded_steps_stop_behind_one_that_is_not_finite():
    graph = walked()
    noise = torch.tensor([[1.0], [1.0], [-9.0], [30.0]], dtype=torch.float64).expand(4, 3).contiguous()
    for guard, made in ((True, 3), (False, 4)):
        state = torch.ones(3, dtype=torch.float64)
        losses, path = torch.zeros(4, dtype=torch.float64), torch.zeros(4, 3, dtype=torch.float64)
        runner = Inductor().compile(graph).bind((state,), graph.fixed)
        assert runner.run(4, [noise], [losses, path], guard=guard) == made
        assert losses.isfinite().tolist() == [True, True, False, True]
        assert bool(path[3].any()) is not guard


def test_code_serves_other_data_of_the_same_shape():
    graph = walked()
    state = torch.zeros(3, dtype=torch.float64)
    runner = Inductor().compile(graph).bind((state,), tuple(10 * tensor for tensor in graph.fixed))
    runner.run(1, [torch.ones(1, 3, dtype=torch.float64)], [torch.zeros(1, dtype=torch.float64), torch.zeros(1, 3)])
    torch.testing.assert_close(state, 10 * DATA)


def test_a_graph_is_compiled_once(memory, monkeypatch):
    compiled = []
    monkeypatch.setattr(inductor, "_compile", lambda graph: compiled.append(graph) or (lambda *inputs: inputs))
    monkeypatch.setattr(inductor, "KEPT_GRAPHS", 2)
    backend, graphs = Inductor(), [walked(scale) for scale in (1.0, 2.0, 3.0)]
    assert not backend.is_compiled(graphs[0])
    for graph in (graphs[0], graphs[1], graphs[0], walked(1.0), graphs[2]):
        backend.compile(graph)
    assert compiled == [graphs[0], graphs[1], graphs[2]]
    assert [backend.is_compiled(graph) for graph in graphs] == [True, False, True]


def test_a_compiler_that_fails_is_quoted(memory, monkeypatch):
    import torch._inductor.compile_fx

    def fail(*_):
        raise RuntimeError("header\n\nthe last line of the compiler.\n")

    monkeypatch.setattr(torch._inductor.compile_fx, "compile_fx", fail)
    with pytest.raises(CaptureError, match=r"^the compiler failed: the last line of the compiler$"):
        Inductor().compile(walked())
    assert not memory


def test_an_operation_that_it_does_not_know_is_refused(memory):
    streams = [torch.linspace(-1.0, 1.0, 4)]
    graph = capture(lambda x: (x[x > 0].sum(),), (), streams, (), other_streams=streams)
    with pytest.raises(CaptureError, match="the compiler failed"):
        Inductor().compile(graph)


def test_random_operations_draw_from_torchs_generator():
    streams = [torch.linspace(0.1, 1.0, 4), torch.linspace(0.2, 2.0, 4)]

    def draw(x):
        return (torch.nn.functional.dropout(x, 0.5) + torch.rand_like(x),)

    with torch.random.fork_rng(devices=[]):
        graph = capture(draw, (), streams[:1], (), other_streams=streams[1:])
        assert len(graph.random) == 2
        found = torch.empty(3, 4)
        runner = Inductor().compile(graph).bind((), graph.fixed)
        torch.manual_seed(1)
        runner.run(3, [streams[1].expand(3, 4).contiguous()], [found])
        torch.manual_seed(1)
        wanted = torch.stack([draw(streams[1])[0] for _ in range(3)])
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_no_compiler_is_missing(monkeypatch):
    assert Inductor().available() is None
    monkeypatch.setenv("CXX", "absent")
    assert "no C++ compiler found" in Inductor().available()
