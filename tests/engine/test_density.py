"""Compiled densities: the model's own numbers, and what is done and said where a faster backend cannot run."""

import math
import time
import warnings

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from closed_forms import DATA, EVIDENCE, MEAN, log_posterior, regression

from engine.steps import Plain
from ppl_models.engine import COMPILERS, CaptureError, compile_density, density, graph
from ppl_models.engine.backends import NAMES, check_backend
from ppl_models.engine.density import capture_density
from ppl_models.engine.native import build
from ppl_models.errors import BackendWarning, UnknownNameError
from ppl_models.program import build_program


@pytest.fixture
def only(monkeypatch):
    """Let these be all the backends that compile."""

    def only(*backends):
        monkeypatch.setattr(density, "COMPILERS", {backend.name: backend for backend in backends})

    return only


def compiled(program, backend):
    """The density, its warnings turned into errors."""
    with warnings.catch_warnings(), program.isolated(num_threads=1):
        warnings.simplefilter("error", BackendWarning)
        return compile_density(program, backend)


def refused(program, backend="auto"):
    """The eager density that is given in another's place, with one warning that says why."""
    with program.isolated(), pytest.warns(BackendWarning) as caught:
        found = compile_density(program, backend)
    assert found.backend == "eager"
    assert found.pool(1) is None
    assert len(caught) == 1
    assert str(caught[0].message) == f"{found.note}. Running slower, with eager."
    assert "\n" not in found.note
    return found


def branching(y):
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    scale = 1.0 if mu > 0 else 2.0
    pyro.sample("y", dist.Normal(mu, scale).expand([3]).to_event(1), obs=y)


def test_names():
    assert NAMES == ("auto", "eager", "native", "inductor")
    for name in NAMES:
        check_backend(name)
    with pytest.raises(UnknownNameError, match="nearest first: inductor"):
        check_backend("inductr")
    with pytest.raises(UnknownNameError):
        compile_density(build_program(regression, DATA), "numba")


@pytest.mark.parametrize(
    "backend",
    [
        "eager",
        pytest.param("native", marks=pytest.mark.native),
        pytest.param("inductor", marks=pytest.mark.native),
        pytest.param("auto", marks=pytest.mark.native),
    ],
)
def test_densities_are_exact(backend):
    program = build_program(regression, DATA)
    found = compiled(program, backend)
    assert (found.backend, found.note) == ({"auto": "native"}.get(backend, backend), "")
    with program.isolated():
        for flat in (np.array([0.3, -0.2]), np.array([-3.0, 40.0]), MEAN.numpy()):
            leaf = torch.tensor(flat, requires_grad=True)
            wanted = log_posterior(leaf)
            value, gradient = found(flat)
            assert value == pytest.approx(EVIDENCE + float(wanted.detach()), rel=1e-12)
            (slope,) = torch.autograd.grad(wanted, leaf)
            np.testing.assert_allclose(gradient, slope, rtol=1e-10, atol=1e-12)
            assert gradient.dtype == np.float64


@pytest.mark.native
def test_new_data_of_the_same_shape_run_on_the_same_code():
    program = build_program(regression, DATA)
    other = build_program(regression, {"x": DATA["x"], "y": DATA["y"] + 1})
    with program.isolated():
        assert capture_density(program).key() == capture_density(other).key()
    found, oracle = compiled(other, "native"), compiled(other, "eager")
    with other.isolated():
        assert found(np.zeros(2))[0] == pytest.approx(oracle(np.zeros(2))[0], rel=1e-12)


@pytest.mark.native
def test_moving_supports_and_improper_priors():
    def model():
        top = pyro.sample("top", dist.ImproperUniform(dist.constraints.positive, (), ()))
        pyro.sample("low", dist.Uniform(0.0, top))
        pyro.factor("proper", -top)

    program = build_program(model, ())
    fast = compiled(program, "native")
    u, v = 0.7, -0.4
    with program.isolated():
        value, _ = fast(np.array([u, v]))
    wanted = -math.exp(u) + u + math.log(1 / (1 + math.exp(-v))) + math.log(1 / (1 + math.exp(v)))
    assert value == pytest.approx(wanted, rel=1e-10)


@pytest.mark.native
def test_a_covariance_that_is_not_positive_is_a_point_without_density():
    def model():
        diagonal = pyro.sample("diagonal", dist.Normal(1.0, 0.01))
        pyro.sample("y", dist.MultivariateNormal(torch.zeros(2), torch.eye(2) * diagonal), obs=torch.ones(2))

    program = build_program(model, ())
    found = compiled(program, "native")
    with program.isolated():
        assert math.isfinite(found(np.array([0.5]))[0])
        value, gradient = found(np.array([-0.5]))
    assert math.isnan(value)
    assert np.isnan(gradient).all()


def test_no_compiler_is_said_once(monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(build.shutil, "which", lambda name: None)
    found = refused(build_program(regression, DATA))
    assert found.note.count("no C++ compiler found") == 2
    refused(build_program(regression, DATA), "native")
    refused(build_program(regression, DATA), "inductor")
    assert compiled(build_program(regression, DATA), "eager").backend == "eager"


def test_a_model_that_branches_on_a_latent_runs_eagerly():
    found = refused(build_program(branching, (np.zeros(3),)))
    assert found.note.startswith("capture: ")
    assert "reads the value of a tensor" in found.note
    assert "(test_density.py, line " in found.note


def test_a_model_that_draws_for_its_density_runs_eagerly():
    def noisy(y):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(mu + torch.randn(()), 1.0), obs=y)

    assert (
        "draws random numbers while its density is computed (aten.randn)"
        in refused(build_program(noisy, (np.zeros(3)[0],))).note
    )


def test_a_graph_that_is_too_large_is_refused_quickly(monkeypatch):
    monkeypatch.setattr(graph, "MAX_NODES", 60)

    def loop():
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        for _ in range(100):
            x = x + 0.01 * torch.sin(x)
        pyro.factor("end", -x)

    program = build_program(loop, ())
    started = time.perf_counter()
    assert "operations, more than 60" in refused(program).note
    assert time.perf_counter() - started < 20.0


class Failing(Plain):
    """A backend that cannot compile."""

    name = "failing"

    def compile(self, graph):
        raise CaptureError("the last line of the compiler")


class Missing(Plain):
    """A backend that is not installed."""

    name = "missing"

    def available(self):
        return "no such library"


def test_auto_takes_the_first_that_works_and_says_why(only):
    only(Missing(), Failing(), Plain(), Missing())
    found = compiled(build_program(regression, DATA), "auto")
    assert found.backend == "plain"
    assert found.note == "backend missing: no such library; backend failing: the last line of the compiler"
    assert compiled(build_program(regression, DATA), "eager").note == ""


def wrong_value(results):
    results[0] *= 1 + 1e-6


def wrong_gradient(results):
    results[1] *= 1 + 1e-6


def not_finite(results):
    results[1][0] = math.nan


@pytest.mark.parametrize(
    ("spoil", "which"), [(wrong_value, "value"), (wrong_gradient, "gradient"), (not_finite, "gradient")]
)
def test_a_backend_with_other_numbers_is_not_used(only, spoil, which):
    only(Plain(lambda step, results: spoil(results)))
    assert f"backend plain: its {which} differs from eager's by" in refused(build_program(regression, DATA)).note


def test_a_backend_that_fails_when_it_runs_is_not_used(only):
    def fail(step, results):
        raise RuntimeError("no such operator")

    only(Plain(fail))
    assert "the density fails: RuntimeError: no such operator" in refused(build_program(regression, DATA)).note


def test_python_state_is_noticed(only):
    only(Plain())
    calls = []

    def model(y):
        calls.append(1)
        pyro.sample("mu", dist.Normal(0.0, 1.0 + len(calls)))

    assert "changes Python state" in refused(build_program(model, (np.zeros(3),))).note


def test_points_without_a_finite_density_agree_where_both_are_not_finite():
    nan, one = torch.tensor([math.nan, 1.0]), torch.tensor([1.0, 1.0])
    assert density.agree(nan, nan)
    assert not density.agree(one, nan)
    assert not density.agree(nan, one)
    assert density.agree(torch.tensor(math.inf), torch.tensor(math.inf))
    assert density.agree(torch.full((2,), math.nan), torch.full((2,), math.nan))


def test_only_native_densities_have_a_pool(only):
    only(Plain())
    assert compiled(build_program(regression, DATA), "auto").pool(2) is None


def test_the_listed_backends_keep_to_the_protocol():
    for name, backend in COMPILERS.items():
        assert backend.name == name
        assert backend.available() is None or isinstance(backend.available(), str)
