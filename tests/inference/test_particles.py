"""Vectorised ELBO particles: the proof that a model allows them, and the ELBO and its gradient by hand."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from closed_forms import DATA, EVIDENCE, MEAN, PRECISION, log_normal_density, log_posterior, regression
from pyro.distributions.testing.fakes import NonreparameterizedNormal
from pyro.infer import Trace_ELBO, TraceEnum_ELBO
from torch.distributions import constraints

import ppl_models as ppl
from ppl_models.inference.particles import can_vectorise, can_vmap_particles, default_num_particles
from ppl_models.inference.vmapped_elbo import VmappedTrace_ELBO
from ppl_models.program import build_program

LOCATION, SCALE = torch.tensor([0.3, -0.2], dtype=torch.float64), torch.tensor([0.4, 0.9], dtype=torch.float64)


def guide(x, y=None):
    location = pyro.param("location", LOCATION.clone())
    scale = pyro.param("scale", SCALE.clone(), constraint=constraints.positive)
    return pyro.sample("weights", dist.Normal(location, scale).to_event(1))


def by_matrix_product(x, y=None):
    weights = pyro.sample("weights", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    with pyro.plate("row", len(x)):
        pyro.sample("y", dist.Normal(x @ weights, 1.0), obs=y)


def by_sum_over_everything(x, y=None):
    """Under a particle plate the mean runs over particles too: no error, and a wrong density."""
    weights = pyro.sample("weights", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    with pyro.plate("row", len(x)):
        pyro.sample("y", dist.Normal(weights.mean(), 1.0), obs=y)


def reads_a_value(x, y=None):
    weights = pyro.sample("weights", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    pyro.factor("branch", -1.0 if float(weights.detach().sum()) > 0 else -2.0)


def in_isolation(model, check, guide=guide, data=DATA):
    program = build_program(model, data)
    with program.isolated(seed=0):
        return check(program, guide)


def log_q(weights):
    return log_normal_density(weights, LOCATION.numpy(), SCALE.numpy()).sum(-1)


@pytest.mark.parametrize(
    ("model", "accepted"),
    [(regression, True), (by_matrix_product, False), (by_sum_over_everything, False), (reads_a_value, False)],
)
def test_proof(model, accepted):
    assert in_isolation(model, lambda program, guide: can_vectorise(program, guide, Trace_ELBO)) is accepted


def test_proof_changes_nothing():
    program = build_program(regression, DATA)
    with program.isolated(seed=0):
        before = torch.get_rng_state()
        can_vectorise(program, guide, Trace_ELBO)
        can_vmap_particles(program, guide)
        assert torch.equal(torch.get_rng_state(), before)
        assert list(pyro.get_param_store().keys()) == []


@pytest.mark.parametrize("right", [True, False])
def test_proof_with_enumerated_sites(right):
    def mixture(y):
        weights = pyro.sample("weights", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
        with pyro.plate("row", len(y)):
            label = pyro.sample("label", dist.Bernoulli(0.3), infer={"enumerate": "parallel"})
            # without the ellipsis, particles are taken for coefficients
            first, second = (weights[..., 0], weights[..., 1]) if right else (weights[0].sum(), weights[1].sum())
            pyro.sample("y", dist.Normal(first + label * second, 1.0), obs=y)

    found = in_isolation(
        mixture,
        lambda program, guide: can_vectorise(program, guide, TraceEnum_ELBO),
        lambda y: guide(None),
        (np.array([0.1, 2.0]),),
    )
    assert found is right


@pytest.mark.parametrize(
    ("model", "accepted"),
    [(regression, True), (by_matrix_product, True), (by_sum_over_everything, True), (reads_a_value, False)],
)
def test_vmap_takes_models_that_do_not_broadcast(model, accepted):
    assert in_isolation(model, can_vmap_particles) is accepted


def test_vmap_needs_reparameterised_guides():
    def rejecting(x, y=None):
        pyro.sample("weights", NonreparameterizedNormal(LOCATION, SCALE).to_event(1))

    assert in_isolation(regression, can_vmap_particles, rejecting) is False


def test_number_of_particles_falls_with_the_size_of_the_data():
    assert default_num_particles(build_program(regression, DATA)) == 64
    wide = build_program(regression, {"x": np.zeros((5_000, 2)), "y": np.zeros(5_000)})
    assert default_num_particles(wide) == 200_000 // wide.size_hint
    huge = build_program(regression, {"x": np.zeros((200_000, 2)), "y": np.zeros(200_000)})
    assert default_num_particles(huge) == 1


class Recorder:
    """The guide, remembering its latest draw."""

    def __call__(self, x, y=None):
        self.draw = guide(x, y).detach().clone()


def one_step(model, num_particles, **options):
    recorder = Recorder()
    fit = ppl.fit(model, DATA, guide=recorder, max_steps=1, num_particles=num_particles, seed=3, **options)
    return fit, recorder.draw.reshape(-1, 2)


@pytest.mark.parametrize(("num_particles", "elbo"), [(1, "Trace_ELBO"), (5, "Trace_ELBO")])
def test_loss_of_a_step_equals_the_hand_computation(num_particles, elbo):
    fit, draws = one_step(regression, num_particles)
    assert fit.config["elbo"] == elbo
    assert draws.shape == (num_particles, 2)
    wanted = EVIDENCE + log_posterior(draws).numpy() - log_q(draws.numpy())
    assert fit.losses[0] == pytest.approx(-wanted.mean(), rel=1e-10)


def test_gradient_of_a_step_equals_the_closed_form():
    """Plain gradient descent moves each parameter by its gradient, in unconstrained coordinates (log scale)."""
    fit, draws = one_step(regression, 5, optimizer=pyro.optim.SGD({"lr": 1.0}))
    slope = -(draws - MEAN) @ PRECISION
    noise = (draws - LOCATION) / SCALE
    torch.testing.assert_close(fit.parameters["location"] - LOCATION, slope.mean(0), rtol=1e-10, atol=1e-12)
    wanted = (slope * noise * SCALE).mean(0) + 1.0
    torch.testing.assert_close(fit.parameters["scale"].log() - SCALE.log(), wanted, rtol=1e-10, atol=1e-12)


def test_vmapped_elbo_and_gradient_equal_the_closed_form():
    program = build_program(by_matrix_product, DATA)
    elbo = VmappedTrace_ELBO(num_particles=6)
    args, kwargs = program.arguments.args, program.arguments.kwargs
    with program.isolated(seed=0):
        guide(None)
        draws = []

        def recording(x, y=None):
            draws.append(guide(x, y))

        state = torch.get_rng_state()
        loss = elbo.loss_and_grads(program.model, recording, *args, **kwargs)
        torch.set_rng_state(state)
        assert elbo.loss(program.model, guide, *args, **kwargs) == loss
        torch.set_rng_state(state)
        noise = torch.randn(6, 2, dtype=torch.float64)
        store = pyro.get_param_store()._params
        gradients = {name: store[name].grad.clone() for name in ("location", "scale")}
    weights = LOCATION + SCALE * noise
    wanted = EVIDENCE + log_posterior(weights).numpy() - log_q(weights.numpy())
    assert loss == pytest.approx(-wanted.mean(), rel=1e-10)
    slope = -(weights - MEAN) @ PRECISION
    torch.testing.assert_close(gradients["location"], -slope.mean(0), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(gradients["scale"], -((slope * noise * SCALE).mean(0) + 1.0), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("model", [by_matrix_product, by_sum_over_everything])
def test_fit_takes_vmapped_particles_where_a_plate_is_wrong(model):
    fit = ppl.fit(model, DATA, guide=guide, max_steps=2, seed=0)
    assert fit.config["elbo"] == "VmappedTrace_ELBO"
    assert fit.config["num_particles"] == 64


def test_fit_takes_one_particle_where_nothing_can_be_vectorised():
    fit = ppl.fit(reads_a_value, DATA, guide=guide, max_steps=2, seed=0)
    assert (fit.config["elbo"], fit.config["num_particles"]) == ("Trace_ELBO", 1)
    asked = ppl.fit(reads_a_value, DATA, guide=guide, max_steps=2, num_particles=3, seed=0)
    assert asked.config["num_particles"] == 3
