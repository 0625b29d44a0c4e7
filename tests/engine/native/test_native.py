"""The native backend: operators inside a step, the cache around it, and densities called by several threads."""

import contextlib
import ctypes
import math
import os
import subprocess
import sys
import threading
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from closed_forms import DATA, EVIDENCE, log_posterior, regression
from randomness import seeded

from ppl_models.engine import compile_density
from ppl_models.engine.cache import Cache
from ppl_models.engine.graph import capture
from ppl_models.engine.native import native as module
from ppl_models.engine.native.native import OBJECT, Native
from ppl_models.errors import CaptureError
from ppl_models.program import build_program

pytestmark = pytest.mark.native
DATA_VECTOR = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
NATIVE = Native()


def vectors(size=3, dtype=torch.float64):
    return [torch.linspace(first, 1.0, size, dtype=dtype) for first in (0.3, 0.6)]


def walk(total, noise):
    total.add_(noise * DATA_VECTOR)
    return (total.sum().log(), total * 1)


def walked():
    state = torch.zeros(3, dtype=torch.float64)
    return capture(walk, (state,), vectors()[:1], (DATA_VECTOR,), other_streams=vectors()[1:])


# Steps.


def many_operators(total, noise, index):
    matrix = torch.outer(noise, noise) + 2 * torch.eye(4, dtype=noise.dtype)
    factor = torch.linalg.cholesky(matrix)
    solved = torch.linalg.solve_triangular(factor, total[:, None], upper=False)[:, 0]
    ordered, places = torch.sort(noise[index])
    total.add_(torch.cumsum(ordered, 0) * 0.1)
    product = matrix @ factor.mT
    results = (solved.sum() + torch.logdet(matrix), solved, ordered, places, product.sum(1), torch.cumprod(noise, 0))
    return (*results, (noise > 0.5), torch.linalg.solve(matrix, noise), torch.logsumexp(product, (0, 1)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_operators_give_torchs_numbers(dtype):
    index = [torch.tensor([0, 2, 2, 1]), torch.tensor([3, 2, 1, 0])]
    state = torch.linspace(-1.0, 1.0, 4, dtype=dtype)
    streams = [[noise, chosen] for noise, chosen in zip(vectors(4, dtype), index, strict=True)]
    graph = capture(many_operators, (state,), streams[0], (), other_streams=streams[1])
    noise = torch.linspace(-1.0, 2.0, 20, dtype=dtype).reshape(5, 4).cos()
    chosen = torch.arange(20).reshape(5, 4) * 7 % 4
    ours, theirs = state.clone(), state.clone()
    wanted = [many_operators(theirs, *row) for row in zip(noise, chosen, strict=True)]
    found = [torch.empty(5, *value.shape, dtype=value.dtype) for value in wanted[0]]
    runner = NATIVE.compile(graph).bind((ours,), graph.fixed)
    assert runner.run(2, [noise[:2], chosen[:2]], [one[:2] for one in found]) == 2
    assert runner.run(3, [noise[2:], chosen[2:]], [one[2:] for one in found]) == 3
    tolerance = {"rtol": 1e-10, "atol": 1e-10} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-5}
    for one, other in zip((ours, *found), (theirs, *map(torch.stack, zip(*wanted, strict=True))), strict=True):
        torch.testing.assert_close(one, other, **tolerance)


def test_guarded_steps_stop_behind_one_that_is_not_finite():
    graph = walked()
    noise = torch.tensor([[1.0], [1.0], [-9.0], [30.0]], dtype=torch.float64).expand(4, 3).contiguous()
    for guard, made in ((True, 3), (False, 4)):
        state = torch.ones(3, dtype=torch.float64)
        losses, path = torch.zeros(4, dtype=torch.float64), torch.zeros(4, 3, dtype=torch.float64)
        runner = NATIVE.compile(graph).bind((state,), graph.fixed)
        assert runner.run(4, [noise], [losses, path], guard=guard) == made
        assert losses.isfinite().tolist() == [True, True, False, True]
        torch.testing.assert_close(path[:made], 1 + (noise * DATA_VECTOR).cumsum(0)[:made])
        torch.testing.assert_close(state, path[made - 1])


def test_one_code_serves_several_bindings_at_once():
    graph = walked()
    states = [torch.full((3,), float(number), dtype=torch.float64) for number in range(2)]
    fixed = [tuple(scale * tensor for tensor in graph.fixed) for scale in (1.0, 10.0)]
    runners = [NATIVE.compile(graph).bind((state,), held) for state, held in zip(states, fixed, strict=True)]
    ones = torch.ones(1, 3, dtype=torch.float64)
    results = [torch.zeros(1, dtype=torch.float64), torch.zeros(1, 3, dtype=torch.float64)]
    for _ in range(2):
        for runner in runners:
            runner.run(1, [ones], results)
    torch.testing.assert_close(states[0], 2 * DATA_VECTOR)
    torch.testing.assert_close(states[1], 1 + 20 * DATA_VECTOR)


def test_bound_tensors_outlive_their_names():
    graph = walked()
    runner = NATIVE.compile(graph).bind((torch.zeros(3, dtype=torch.float64),), tuple(t.clone() for t in graph.fixed))
    results = [torch.zeros(4, dtype=torch.float64), torch.zeros(4, 3, dtype=torch.float64)]
    noise = torch.ones(4, 3, dtype=torch.float64)
    for _ in range(50):
        runner.run(4, [noise], results)
        torch.full((3,), torch.nan, dtype=torch.float64)
    torch.testing.assert_close(results[1][-1], 200 * DATA_VECTOR)


def test_an_operator_that_fails_raises():
    def step(x):
        return (torch.poisson(x).sum(),)

    with seeded():
        graph = capture(step, (), vectors()[:1], (), other_streams=vectors()[1:])
        runner = NATIVE.compile(graph).bind((), graph.fixed)
        result = torch.zeros(1, dtype=torch.float64)
        with pytest.raises(RuntimeError, match="operator of torch failed"):
            runner.run(1, [torch.full((1, 3), -1.0, dtype=torch.float64)], [result])
        assert runner.run(1, [torch.full((1, 3), 100.0, dtype=torch.float64)], [result]) == 1
        assert float(result) > 100.0


def boolean_mask(x):
    return (x[x > 0.5].sum(),)


def eigenvalues(x):
    return (torch.linalg.eigvalsh(torch.outer(x, x)),)


def half(x):
    return (torch.sort(x.to(torch.bfloat16))[0].sum(),)


@pytest.mark.parametrize("function", [boolean_mask, eigenvalues, half])
def test_what_cannot_be_lowered_is_refused(function):
    graph = capture(function, (), vectors()[:1], (), other_streams=vectors()[1:])
    with pytest.raises(CaptureError):
        NATIVE.compile(graph)


def test_no_compiler_is_missing(monkeypatch):
    assert NATIVE.available() is None
    monkeypatch.setenv("CXX", "absent")
    assert "no C++ compiler found" in NATIVE.available()


# The cache.


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """An empty cache and an empty memory; what is compiled is counted, and taken from the cache of the tests."""
    graph = walked()
    NATIVE.compile(graph)
    content = (Cache().get(module._key(graph)) / OBJECT).read_bytes()
    built = []
    monkeypatch.setattr(module, "build", lambda source: built.append(source) or content)
    monkeypatch.setattr(module, "_loaded", OrderedDict())
    monkeypatch.setenv("PPL_MODELS_CACHE_DIR", str(tmp_path / "cache"))
    return built


def runs(graph):
    """Whether compiled code does what it should."""
    state = torch.zeros(3, dtype=torch.float64)
    results = [torch.zeros(1, dtype=torch.float64), torch.zeros(1, 3, dtype=torch.float64)]
    NATIVE.compile(graph).bind((state,), graph.fixed).run(1, [torch.ones(1, 3, dtype=torch.float64)], results)
    return torch.equal(state, DATA_VECTOR)


def test_code_is_taken_from_memory_then_from_the_cache(fresh):
    assert not NATIVE.is_compiled(walked())
    assert runs(walked())
    assert runs(walked())
    assert len(fresh) == 1
    module._loaded.clear()
    assert NATIVE.is_compiled(walked())
    assert runs(walked())
    assert len(fresh) == 1
    assert Cache().size()[0] == 1


def test_memory_of_code_is_bounded(fresh, monkeypatch):
    monkeypatch.setattr(module, "KEPT_LIBRARIES", 1)
    monkeypatch.setattr(module, "lower", lambda *_: None)
    monkeypatch.setattr(module, "generate", lambda *_, **__: "")
    first, other = walked(), capture(walk, walked().state, vectors()[:1], (), other_streams=vectors()[1:])
    NATIVE.compile(first)
    NATIVE.compile(other)
    assert list(module._loaded) == [module._key(other)]


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def exchange(path):
    path.write_bytes(b"#!/bin/sh\n")


@pytest.mark.parametrize("damage", [truncate, flip, exchange])
def test_damaged_code_is_compiled_again(fresh, damage):
    NATIVE.compile(walked())
    module._loaded.clear()
    # In another folder: a file that this process has loaded must not change under it.
    entry = Cache().get(module._key(walked()))
    copied = {path.name: path.read_bytes() for path in entry.iterdir()}
    Cache().clear()
    entry.mkdir(mode=0o700)
    for name, content in copied.items():
        (entry / name).write_bytes(content)
        (entry / name).chmod(0o600)
    damage(entry / OBJECT)
    assert not NATIVE.is_compiled(walked())
    assert not entry.exists()
    assert runs(walked())
    assert len(fresh) == 2
    assert NATIVE.is_compiled(walked())


def test_a_cache_that_cannot_be_written_is_done_without(fresh, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PPL_MODELS_CACHE_DIR", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(module.tempfile, "tempdir", str(tmp_path))
    before = sorted(tmp_path.iterdir())
    assert runs(walked())
    assert runs(walked())
    assert len(fresh) == 1
    assert sorted(tmp_path.iterdir()) == before


def test_code_of_another_compiler_is_other_code(monkeypatch):
    graph = walked()
    ours = module._key(graph)
    monkeypatch.setattr(module, "compiler_identity", lambda compiler: "another")
    assert module._key(graph) != ours
    monkeypatch.setattr(module, "cpp_compiler", lambda: None)
    assert module._key(graph) not in (ours, graph.key())


CAPTURE = """
import torch
from ppl_models.engine.graph import capture

def density(x):
    held = torch.arange(4.0)
    slope = torch.func.grad(lambda x: torch.logsumexp(x.cumsum(0) * held, 0))(x)
    return (slope.sum(), torch.linalg.cholesky(torch.outer(x, x) + torch.eye(4)).sum())

graph = capture(density, (), [torch.zeros(4)], (), other_streams=[torch.ones(4)])
"""
RACE = """
from ppl_models.engine.native import native

compile_it = native._compiled
native._compiled = lambda *given: print("compiled") or compile_it(*given)
print("ready", flush=True)
input()
results = [torch.empty(3), torch.empty(3)]
native.Native().compile(graph).bind((), graph.fixed).run(3, [torch.linspace(-1.0, 1.0, 12).reshape(3, 4)], results)
print(graph.key(), [result.tolist() for result in results])
"""


@pytest.mark.exhaustive
@pytest.mark.slow
def test_two_processes_that_compile_the_same_compile_it_once(tmp_path):
    command = [sys.executable, "-c", CAPTURE + RACE]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    environment = {**os.environ, "PPL_MODELS_CACHE_DIR": str(tmp_path)}
    folder = Path(__file__).parents[3]
    with contextlib.ExitStack() as stack:
        started = [subprocess.Popen(command, env=environment, cwd=folder, **pipes) for _ in range(2)]
        for process in started:
            stack.enter_context(process)
            stack.callback(process.kill)
        assert [process.stdout.readline() for process in started] == ["ready\n"] * 2
        for process in started:
            process.stdin.write("\n")
            process.stdin.flush()
        lines = [process.communicate(timeout=300)[0].splitlines() for process in started]
    assert sorted(map(len, lines)) == [1, 2]
    assert lines[0][-1] == lines[1][-1]
    here = {}
    exec(CAPTURE, here)
    assert lines[0][-1].startswith(f"{here['graph'].key()} [[")
    assert Cache(tmp_path).size()[0] == 1


# Densities as C functions.

DENSITY = ctypes.CFUNCTYPE(
    ctypes.c_int64, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p
)
EXPAND = ctypes.CFUNCTYPE(
    ctypes.c_int64, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p
)


def compiled(dtype=torch.float64):
    program = build_program(regression, DATA, dtype=dtype)
    with program.isolated():
        return compile_density(program, "native")


def evaluate(pool, point):
    """Code, value and gradient of the C function at a point."""
    point, gradient, value = np.array(point, dtype=np.float64), np.empty(len(point)), np.empty(1)
    function = DENSITY(pool.density)
    code = function(len(point), point.ctypes.data, gradient.ctypes.data, value.ctypes.data, pool.user_data)
    return code, float(value[0]), gradient


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_a_density_as_a_c_function(dtype, rtol):
    pool = compiled(dtype).pool(1)
    for point in ([0.3, -0.2], [1.0, 1.0]):
        leaf = torch.tensor(point, dtype=torch.float64, requires_grad=True)
        wanted = log_posterior(leaf)
        code, value, gradient = evaluate(pool, point)
        assert code == 0
        assert value == pytest.approx(EVIDENCE + float(wanted.detach()), rel=rtol)
        np.testing.assert_allclose(gradient, torch.autograd.grad(wanted, leaf)[0], rtol=10 * rtol)
    assert pool.calls == 2


@pytest.mark.parametrize("point", [[math.nan, 0.0], [0.0, math.inf], [1e200, 0.0]])
def test_a_point_without_a_finite_density_is_rejected(point):
    pool = compiled().pool(1)
    code, _, _ = evaluate(pool, point)
    assert code == 1
    assert evaluate(pool, [0.0, 0.0])[0] == 0


def test_several_threads_call_one_density():
    num_threads, num_calls = 4, 2_000
    density = compiled()
    pool = density.pool(2)
    points = np.random.default_rng(1).normal(size=(num_threads, num_calls, 2))
    found = np.empty((num_threads, num_calls, 3))
    start = threading.Barrier(num_threads)

    def work(number):
        start.wait()
        for call, point in enumerate(points[number]):
            _, value, gradient = evaluate(pool, point)
            found[number, call] = value, *gradient

    threads = [threading.Thread(target=work, args=(number,)) for number in range(num_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    flat = torch.from_numpy(points).requires_grad_(True)
    wanted = log_posterior(flat)
    (slopes,) = torch.autograd.grad(wanted.sum(), flat)
    np.testing.assert_allclose(found[..., 0], EVIDENCE + wanted.detach(), rtol=1e-10)
    np.testing.assert_allclose(found[..., 1:], slopes, rtol=1e-9, atol=1e-10)
    assert pool.calls == num_threads * num_calls


def test_expansion_copies_a_draw():
    pool = compiled().pool(1)
    draw, expanded = np.array([1.5, -2.5]), np.zeros(2)
    assert EXPAND(pool.expand)(2, 2, draw.ctypes.data, expanded.ctypes.data, pool.user_data) == 0
    assert expanded.tolist() == [1.5, -2.5]


def test_a_pool_keeps_what_it_needs():
    pool = compiled().pool(3)
    torch.full((1_000,), math.nan)
    assert evaluate(pool, [0.0, 0.0])[0] == 0
