"""Backends: parity with eager, and what is done and said where a faster one cannot run."""

import math
import time
import warnings

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from closed_forms import DATA, EVIDENCE, MEAN, log_posterior, regression

import ppl_models as ppl
from ppl_models import engine
from ppl_models.engine import BACKENDS, CaptureError, capture, compile_density, cpp_compiler, density, inductor
from ppl_models.errors import BackendWarning, UnknownNameError
from ppl_models.program import build_program

NUM_POINTS = 5


def branching(y):
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    scale = 1.0 if mu > 0 else 2.0
    pyro.sample("y", dist.Normal(mu, scale).expand([3]).to_event(1), obs=y)


def compiled(program, backend):
    """The density, its warnings turned into errors."""
    with warnings.catch_warnings(), program.isolated(num_threads=1):
        warnings.simplefilter("error", BackendWarning)
        return compile_density(program, backend)


def refused(program, backend="auto"):
    with program.isolated(), pytest.warns(BackendWarning) as caught:
        found = compile_density(program, backend)
    assert found.backend == "eager"
    assert len(caught) == 1
    assert found.note in str(caught[0].message)
    return found


def test_names():
    assert tuple(BACKENDS) == ("inductor", "eager")
    for name in ("auto", *BACKENDS):
        engine.check_backend(name)
    with pytest.raises(UnknownNameError, match="nearest first: inductor"):
        engine.check_backend("inductr")
    with pytest.raises(UnknownNameError):
        compile_density(build_program(regression, DATA), "numba")


def test_eager_needs_nothing_and_is_exact():
    program = build_program(regression, DATA)
    found = compiled(program, "eager")
    flat = np.array([0.3, -0.2])
    with program.isolated():
        value, gradient = found(flat)
    assert (found.backend, found.note) == ("eager", "")
    assert value == pytest.approx(EVIDENCE + float(log_posterior(torch.tensor(flat))), rel=1e-12)
    assert gradient.dtype == np.float64


@pytest.mark.slow
@pytest.mark.native
@pytest.mark.parametrize("name", ["old_faithful_mixture", "diabetes_horseshoe", "lynx_ar2"])
def test_inductor_agrees_with_eager(name):
    problem = ppl.load(name)
    program = build_program(problem.model, problem.data)
    fast, slow = compiled(program, "inductor"), compiled(program, "eager")
    rng = np.random.default_rng(1)
    with program.isolated(num_threads=1):
        for flat in rng.normal(size=(NUM_POINTS, program.num_dims)):
            found, wanted = fast(flat), slow(flat)
            assert found[0] == pytest.approx(wanted[0], rel=1e-9)
            np.testing.assert_allclose(found[1], wanted[1], rtol=1e-9, atol=1e-9 * np.abs(wanted[1]).max())


@pytest.mark.native
def test_inductor_sees_moving_supports_and_improper_priors():
    def model():
        top = pyro.sample("top", dist.ImproperUniform(dist.constraints.positive, (), ()))
        pyro.sample("low", dist.Uniform(0.0, top))
        pyro.factor("proper", -top)

    program = build_program(model, ())
    fast = compiled(program, "auto")
    assert fast.backend == "inductor"
    u, v = 0.7, -0.4
    with program.isolated():
        value, _ = fast(np.array([u, v]))
    wanted = -math.exp(u) + u + math.log(1 / (1 + math.exp(-v))) + math.log(1 / (1 + math.exp(v)))
    assert value == pytest.approx(wanted, rel=1e-10)


def test_no_compiler_is_said_once(monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(inductor.shutil, "which", lambda name: None)
    assert cpp_compiler() is None
    found = refused(build_program(regression, DATA))
    assert "no C++ compiler" in found.note
    refused(build_program(regression, DATA), "inductor")
    assert compiled(build_program(regression, DATA), "eager").backend == "eager"


def test_compiler_named_by_the_environment(monkeypatch):
    monkeypatch.setattr(inductor.shutil, "which", lambda name: f"/bin/{name}" if name in ("mine", "g++") else None)
    monkeypatch.setenv("CXX", "mine")
    assert cpp_compiler() == "/bin/mine"
    monkeypatch.setenv("CXX", "absent")
    assert cpp_compiler() is None
    monkeypatch.delenv("CXX")
    assert cpp_compiler() == "/bin/g++"


def test_model_that_branches_on_a_latent_runs_eagerly():
    program = build_program(branching, (np.zeros(3),))
    assert "data-dependent" in refused(program).note.lower() or "control flow" in refused(program).note.lower()


def test_graph_that_is_too_large_is_refused_quickly(monkeypatch):
    monkeypatch.setattr(capture, "MAX_NODES", 60)

    def loop():
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        for _ in range(100):
            x = x + 0.01 * torch.sin(x)
        pyro.factor("end", -x)

    program = build_program(loop, ())
    started = time.perf_counter()
    found = refused(program)
    assert "operations, more than 60" in found.note
    assert time.perf_counter() - started < 20.0


@pytest.mark.native
def test_compiler_that_fails_is_survived(monkeypatch):
    import torch._inductor

    def fail(*_):
        raise RuntimeError("header\n\nthe last line of the compiler")

    monkeypatch.setattr(torch._inductor, "compile", fail)
    assert "the last line of the compiler" in refused(build_program(regression, DATA)).note


class Wrong:
    """A backend whose gradient is off in the sixth digit."""

    name = "wrong"

    def available(self):
        return None

    def compile(self, program):
        oracle = BACKENDS["eager"].compile(program)

        def gradient(flat):
            value, slope = oracle(flat)
            return value, slope * (1 + 1e-6)

        return gradient


def test_backend_without_parity_is_not_used(monkeypatch):
    monkeypatch.setattr(density, "BACKENDS", {"wrong": Wrong(), "eager": BACKENDS["eager"]})
    assert "gradient differs" in refused(build_program(regression, DATA)).note


def test_points_without_a_finite_density_agree_where_both_are_not_finite():
    nan, one = torch.tensor([math.nan, 1.0]), torch.tensor([1.0, 1.0])
    assert density._agree(nan, nan)
    assert not density._agree(one, nan)
    assert not density._agree(nan, one)
    assert density._agree(torch.tensor(math.inf), torch.tensor(math.inf))


def test_capture_error_has_one_line():
    program = build_program(branching, (np.zeros(3),))
    with program.isolated(), pytest.raises(CaptureError) as caught:
        capture.capture_gradient(program, torch.zeros(1, dtype=torch.float64))
    assert "\n" not in str(caught.value)


def test_mode_of_the_density():
    program = build_program(regression, DATA)
    with program.isolated():
        _, gradient = compile_density(program, "eager")(MEAN.numpy())
    assert np.abs(gradient).max() < 1e-12
