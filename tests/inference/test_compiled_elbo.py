"""The drop-in ELBO in Pyro's own SVI loop: the numbers of Trace_ELBO, and eager where it cannot be compiled."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from pyro.optim import Adam

import ppl_models as ppl
from ppl_models.engine.noise import NoiseTape
from ppl_models.program import isolated
from ppl_models.program.batching import OutOfPlaceRandomness

Y = torch.linspace(-1.0, 2.0, 12)


def model(y, scale=1.0):
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Normal(mean, scale), obs=y)


def by_hand(y, scale=1.0):
    loc = pyro.param("loc", torch.tensor(0.3))
    width = pyro.param("width", torch.tensor(0.5), constraint=dist.constraints.positive)
    pyro.sample("mean", dist.Normal(loc, width))


@pytest.fixture(autouse=True)
def world():
    with isolated(seed=0, dtype=torch.float64):
        yield


def loss_and_gradient(elbo, y, noise=None):
    pyro.clear_param_store()
    by_hand(y)
    parameters = dict(pyro.get_param_store().named_parameters())
    if noise is None:
        loss = elbo.loss_and_grads(model, by_hand, y)
    else:
        with NoiseTape(noise, noise), OutOfPlaceRandomness():
            loss = elbo.loss_and_grads(model, by_hand, y)
    return loss, {name: value.grad.clone() for name, value in parameters.items()}


@pytest.mark.native
@pytest.mark.parametrize("backend", ["native", "inductor"])
def test_loss_and_gradient_are_pyros_with_the_same_noise(backend, monkeypatch):
    noise = torch.tensor([[[0.7]]])
    compiled = ppl.CompiledTrace_ELBO(backend=backend)
    loss_and_gradient(compiled, Y)
    monkeypatch.setattr(
        "ppl_models.engine.elbo_graph.ElboFunction.draw_noise", lambda self, count: [noise, torch.zeros(1, 1, 1)]
    )
    for y in (Y, Y * 2.0 - 1.0):  # the second without compiling anew
        found = loss_and_gradient(compiled, y)
        wanted = loss_and_gradient(Trace_ELBO(), y, noise[0, 0])
        assert found[0] == pytest.approx(wanted[0], rel=1e-9)
        assert {k: float(v) for k, v in found[1].items()} == pytest.approx({k: float(v) for k, v in wanted[1].items()})


@pytest.mark.native
def test_svi_finds_the_posterior_and_leaves_the_parameters_in_the_store():
    guide = AutoNormal(model)
    svi = SVI(model, guide, Adam({"lr": 0.02}), ppl.CompiledTrace_ELBO(num_particles=16))
    for _ in range(1_500):
        svi.step(Y)
    precision = 1.0 + len(Y)
    found = guide.median(Y)["mean"]
    assert float(found) == pytest.approx(float(Y.sum()) / precision, abs=0.05 * precision**-0.5 + 0.02)
    assert set(pyro.get_param_store()) == {"AutoNormal.locs.mean", "AutoNormal.scales.mean"}


@pytest.mark.native
def test_gradients_are_added_to_those_there_are():
    elbo = ppl.CompiledTrace_ELBO()
    by_hand(Y)
    loc = dict(pyro.get_param_store().named_parameters())["loc"]
    loc.grad = torch.tensor(100.0)
    elbo.loss_and_grads(model, by_hand, Y)
    assert 0.0 < abs(float(loc.grad) - 100.0) < 90.0


@pytest.mark.native
def test_cleared_store_and_other_shapes_are_compiled_for():
    elbo = ppl.CompiledTrace_ELBO()
    for y in (Y, Y[:5], Y):
        pyro.clear_param_store()
        svi = SVI(model, by_hand, Adam({"lr": 0.01}), elbo)
        before = 0.3
        svi.step(y)
        assert float(pyro.param("loc").detach()) != before


def test_guide_that_needs_a_score_function_is_left_to_pyro_with_one_warning():
    def flipped(y):
        flip = pyro.sample("flip", dist.Bernoulli(0.5))
        pyro.sample("y", dist.Normal(flip, 1.0).expand([len(y)]).to_event(1), obs=y)

    def guide(y):
        pyro.sample(
            "flip", dist.Bernoulli(pyro.param("p", torch.tensor(0.4), constraint=dist.constraints.unit_interval))
        )

    svi = SVI(flipped, guide, Adam({"lr": 0.01}), ppl.CompiledTrace_ELBO())
    with pytest.warns(ppl.PPLWarning, match="site 'flip'") as caught:
        losses = [svi.step(Y) for _ in range(3)]
    assert len(caught) == 1
    assert all(isinstance(loss, float) for loss in losses)


@pytest.mark.native
def test_number_that_changes_from_step_to_step_ends_in_eager_with_a_warning(monkeypatch):
    monkeypatch.setattr("ppl_models.inference.compiled_elbo.MAX_GRAPHS", 2)
    svi = SVI(model, by_hand, Adam({"lr": 0.01}), ppl.CompiledTrace_ELBO())
    svi.step(Y, 1.0)
    svi.step(Y, 2.0)
    with pytest.warns(ppl.PPLWarning, match="kinds of arguments"):
        svi.step(Y, 3.0)


def test_unknown_backend_is_refused():
    with pytest.raises(ppl.PPLError, match="backend"):
        ppl.CompiledTrace_ELBO(backend="jax")
