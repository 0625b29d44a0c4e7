"""Capture: what a graph holds, what its key depends on, and what is refused because it would not be the same twice."""

import inspect
import random

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from ppl_models.engine import graph as module
from ppl_models.engine.graph import capture
from ppl_models.errors import CaptureError
from ppl_models.program import isolated

DATA = torch.linspace(0.0, 1.0, 3, dtype=torch.float64)
HELD = torch.tensor([2.0, 3.0, 5.0], dtype=torch.float64)


def vectors(size=3, dtype=torch.float64):
    return [torch.full((size,), value, dtype=dtype) for value in (0.5, -1.5)]


def captured(function, *, state=(), streams=None, data=(DATA,), **options):
    first, other = streams or vectors()
    return capture(function, state, [first], data, other_streams=[other], **options)


def step(total, noise):
    total.add_(noise * DATA * HELD)
    return (total.sum(),)


def test_a_graph_holds_state_streams_data_and_constants_in_this_order():
    state = torch.ones(3, dtype=torch.float64)
    found = captured(step, state=(state,))
    assert (found.num_state, found.num_streams, found.random, found.density) == (1, 1, (), False)
    assert found.streams[0].eq(0.5).all()
    assert found.fixed[0] is DATA
    assert torch.equal(found.fixed[1], HELD)
    assert torch.equal(found.state[0], state)
    assert state.eq(1.0).all()
    (total,) = found.module(*found.inputs)
    assert float(total) == pytest.approx(3.0 + float((0.5 * DATA * HELD).sum()))


def test_the_text_of_a_graph_has_no_value_of_an_input():
    secret = torch.full((3,), 0.123456789, dtype=torch.float64)
    text = captured(lambda x: (x * secret * DATA + 7.25,), data=(DATA,)).text
    assert "0.1234" not in text
    assert "float 7.25" in text
    assert text.count("input torch.float64 (3,) (1,) cpu") == 3


def test_data_without_elements_and_data_given_twice():
    empty = torch.zeros(0, dtype=torch.float64)
    found = captured(lambda x: (x.sum() + empty.sum() + DATA.sum(),), data=(DATA, empty, DATA))
    assert sum(tensor is DATA for tensor in found.fixed) == 1


def key(function=lambda x: (x * HELD * DATA,), **options):
    return captured(function, **options).key()


def test_the_key_depends_on_no_value():
    other = HELD + 1
    wide = torch.zeros(3, 2, dtype=torch.float64)[:, 0]
    assert key(lambda x: (x * other * DATA,)) == key()
    assert key(lambda x: (x * DATA * 1,), data=()) == key(lambda x: (x * wide.contiguous() * 1,), data=())
    assert key(streams=[tensor + 1 for tensor in vectors()]) == key()


def test_the_key_depends_on_everything_else():
    keys = [
        key(),
        key(lambda x: (x * DATA * HELD,)),
        key(lambda x: (x * HELD * DATA + 1,)),
        key(lambda x: (x * HELD * DATA + 1.0,)),
        key(lambda x: (x * HELD * DATA + 1.0000000000000002,)),
        key(lambda x: ((x * HELD * DATA).to(torch.float32),)),
        key(lambda x: ((x * HELD * DATA)[:, None].expand(3, 2),)),
        key(num_threads=2),
        key(density=True),
        key(lambda total, x: (x * HELD * DATA,), state=(torch.zeros(3),)),
        key(lambda x: (x * 2.0,), streams=vectors(3), data=()),
        key(lambda x: (x * 2.0,), streams=vectors(4), data=()),
        key(lambda x: (x * 2.0,), streams=vectors(3, torch.float32), data=()),
        key(lambda x: (x * 2.0,), streams=[torch.zeros(2, 2).mT, torch.ones(2, 2).mT], data=()),
        key(lambda x: (x * 2.0,), streams=[torch.zeros(2, 2), torch.ones(2, 2)], data=()),
    ]
    assert len(set(keys)) == len(keys)
    graph = captured(step, state=(torch.zeros(3, dtype=torch.float64),))
    assert len({graph.key(), graph.key("1"), graph.key("1", "2"), graph.key("2", "1")}) == 4
    assert all(len(one) == 64 for one in keys)


def line_of(function, text):
    """Number of the line of this file where a function has a text."""
    lines, first = inspect.getsourcelines(function)
    return first + next(number for number, line in enumerate(lines) if text in line)


def refusal(function, **options):
    """Why a function is refused, in one line."""
    with isolated(), pytest.raises(CaptureError) as caught:
        captured(function, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_prints_is_refused_and_printed(capsys):
    def talkative(x):
        print("still", "here")
        return (x * DATA,)

    assert "prints" in refusal(talkative)
    assert capsys.readouterr().out == "still here\n"


def draws_with_python(x):
    return (x * DATA * random.gauss(0.0, 1.0),)


def draws_with_numpy(x):
    return (x * DATA * np.random.standard_normal(),)  # noqa: NPY002


def draws_without_effect(x):
    random.random()
    return (x * DATA,)


@pytest.mark.parametrize("function", [draws_with_python, draws_with_numpy, draws_without_effect])
def test_draws_from_other_generators_are_refused(function):
    assert "Python's or NumPy's generator" in refusal(function)


def test_a_generator_of_the_models_own_is_noticed_by_its_numbers():
    generator = np.random.default_rng(1)
    assert "the same twice" in refusal(lambda x: (x * DATA * generator.normal(),))


def counting(kind):
    calls = []

    def function(x):
        calls.append(1)
        if kind == "number":
            return (x * len(calls),)
        if kind == "shape":
            return (x.expand(len(calls), 3),)
        if kind == "constant":
            return (x * torch.full((3,), float(len(calls)), dtype=x.dtype),)
        if kind == "size of a constant":
            return (x.sum() * torch.ones(len(calls), dtype=x.dtype),)
        return (x + 1 if len(calls) == 1 else x - 1,)

    return function


@pytest.mark.parametrize("kind", ["number", "shape", "constant", "size of a constant", "branch"])
def test_python_state_that_enters_the_result_is_refused(kind):
    assert "changes Python state" in refusal(counting(kind))


def test_python_state_that_enters_nothing_is_no_matter():
    seen = []
    captured(lambda x: (seen.append(x) or x * DATA,))
    assert len(seen) == 2


def baked_list(x):
    return (x * sum(x.tolist()),)


def baked_array(x):
    return (x * float(x.numpy().sum()),)


def baked_tensor(x):
    return (x * torch.tensor([x[0], x[1], x[2]]),)


@pytest.mark.parametrize("function", [baked_list, baked_array, baked_tensor])
def test_values_that_leave_torch_unnoticed_are_refused(function):
    assert "the same twice" in refusal(function)


def test_constants_that_are_nan_are_the_same_twice():
    captured(lambda x: (x * torch.full((3,), torch.nan, dtype=x.dtype),))


def reads_a_stream(x):
    y = x + 1
    return (y if y.sum() > 0 else x,)


def reads_data(x):
    size = int(DATA.sum())
    return (x[:size],)


def fails(x):
    y = x * DATA
    return (y.reshape(5),)


@pytest.mark.parametrize(
    ("function", "text", "reason"),
    [
        (reads_a_stream, "y.sum() > 0", "reads the value of a tensor (aten._local_scalar_dense)"),
        (reads_data, "int(", "reads the value of a tensor (aten._local_scalar_dense)"),
        (fails, "reshape", "RuntimeError: shape '[5]' is invalid"),
    ],
)
def test_a_refusal_names_the_users_line(function, text, reason):
    message = refusal(function)
    assert reason in message
    assert message.endswith(f"(test_graph.py, line {line_of(function, text)})")


def branching():
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    return pyro.sample("y", dist.Normal(w, 1.0 if w > 0 else 2.0))


def test_a_refusal_inside_a_model_is_one_line_too():
    def density(x):
        return (pyro.poutine.trace(pyro.condition(branching, {"w": x[0]})).get_trace().log_prob_sum(),)

    message = refusal(density)
    assert message.endswith(f"(test_graph.py, line {line_of(branching, 'w > 0')})")


def test_long_loops_are_refused(monkeypatch):
    monkeypatch.setattr(module, "MAX_NODES", 50)

    def loop(x):
        for _ in range(40):
            x = x + torch.sin(x)
        return (x,)

    assert "82 operations, more than 50; vectorise" in refusal(loop, data=())
    captured(lambda x: (x.sin(),))


def test_warnings_of_torch_about_tracing_stay_inside():
    def function(x):
        return (torch.func.hessian(lambda x: (x**3).sum())(x),)

    found = captured(function)
    x = torch.linspace(1.0, 2.0, 3, dtype=torch.float64)
    torch.testing.assert_close(found.module(x, *found.fixed)[0], (6 * x).diag())


def test_capture_leaves_what_it_is_given():
    state, data = torch.zeros(3, dtype=torch.float64), DATA.clone()
    captured(lambda total, x: (total.add_(x * data).sum(),), state=(state,), data=(data,))
    assert not state.any()
    assert torch.equal(data, DATA)
