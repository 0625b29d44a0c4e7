"""The kinds of models that people write: modules, plates, parameters, masks, factors, deterministics."""

import numpy as np
import pyro
import pyro.distributions as dist
import pyro.poutine as poutine
import pytest
import torch
from closed_forms import log_normal_density
from pyro.distributions import constraints
from pyro.nn import PyroModule, PyroParam, PyroSample
from randomness import seeded
from torch import nn

from ppl_models.program import build_program

from .evaluation import points, value_and_gradient

X, Y = np.array([[1.0, 2.0], [0.5, -1.0], [0.0, 3.0]]), np.array([0.3, -1.2, 2.5])
EXACT = {"rel": 1e-10}


class Regression(PyroModule):
    """A linear layer with a prior on its weight, a learnt scale, and a bias that stays a plain parameter."""

    def __init__(self):
        super().__init__()
        self.linear = PyroModule[nn.Linear](2, 1)
        self.linear.weight = PyroSample(lambda _: dist.Normal(0.0, 1.0).expand([1, 2]).to_event(2))
        self.linear.bias = nn.Parameter(torch.tensor([0.5]))
        self.scale = PyroParam(torch.tensor(2.0, dtype=torch.float64), constraint=constraints.positive)

    def forward(self, x, y=None):
        mean = self.linear(x).squeeze(-1)
        with pyro.plate("row", len(x)):
            return pyro.sample("y", dist.Normal(mean, self.scale), obs=y)


def regression_density(weights, bias=0.5, scale=2.0):
    mean = X @ np.asarray(weights) + bias
    return log_normal_density(weights, 0.0, 1.0).sum() + log_normal_density(Y, mean, scale).sum()


class Decoder(nn.Module):
    """A plain torch module whose method is the model, as in Pyro's VAE example."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def model(self, x):
        pyro.module("decoder", self)
        with pyro.plate("row", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2, dtype=x.dtype), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.layer(z), 1.0).to_event(1), obs=x)


def test_pyro_module():
    with seeded():
        module = Regression().double()
    program = build_program(module, {"x": X, "y": Y})
    assert [site.name for site in program.sites.latent] == ["linear.weight"]
    for flat in points(program):
        assert value_and_gradient(program, flat)[0] == pytest.approx(regression_density(flat.numpy()), **EXACT)
    assert program.parameters.constrained()["scale"].item() == pytest.approx(2.0)


def test_bound_method_of_a_module():
    with seeded():
        module = Decoder().double()
    program = build_program(module.model, (X,))
    weight, bias = module.layer.weight.detach().numpy(), module.layer.bias.detach().numpy()
    for flat in points(program):
        z = flat.numpy().reshape(3, 2)
        wanted = log_normal_density(z, 0, 1).sum() + log_normal_density(X, z @ weight.T + bias, 1.0).sum()
        assert value_and_gradient(program, flat)[0] == pytest.approx(wanted, **EXACT)
    assert set(program.parameters.values) == {"decoder$$$layer.weight", "decoder$$$layer.bias"}


def test_callable_object_and_keyword_only_arguments():
    class Model:
        def __call__(self, *, y, scale=1.0):
            mu = pyro.sample("mu", dist.Normal(0.0, scale))
            pyro.sample("y", dist.Normal(mu, 1.0).expand([3]).to_event(1), obs=y)

    program = build_program(Model(), {"y": Y, "scale": 3.0})
    assert value_and_gradient(program, [0.7])[0] == pytest.approx(
        log_normal_density(0.7, 0, 3.0) + log_normal_density(Y, 0.7, 1.0).sum(), **EXACT
    )


def nested(y):
    top = pyro.sample("top", dist.Normal(0.0, 1.0))
    with pyro.plate("column", 2, dim=-1):
        low = pyro.sample("low", dist.Normal(top, 1.0))
        with pyro.plate("row", 3, dim=-2):
            pair = pyro.sample("pair", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("y", dist.Normal(low + pair.sum(-1), 1.0), obs=y)


def test_nested_plates():
    y = np.arange(6.0).reshape(3, 2)
    program = build_program(nested, (y,))
    assert program.sites["low"].plates == ("column",)
    assert program.sites["pair"].plates == ("row", "column")
    assert program.sites["pair"].event_dim == 1
    assert program.sites["pair"].dims() == ("row", "column", "pair_dim_2")
    assert program.sites.plate_sizes == {"column": 2, "row": 3}
    assert program.sites.max_plate_nesting == 2
    for flat in points(program):
        top, low, pair = float(flat[0]), flat[1:3].numpy(), flat[3:].numpy().reshape(3, 2, 2)
        wanted = log_normal_density(top, 0, 1) + log_normal_density(low, top, 1).sum()
        wanted += log_normal_density(pair, 0, 1).sum() + log_normal_density(y, low + pair.sum(-1), 1).sum()
        assert value_and_gradient(program, flat)[0] == pytest.approx(wanted, **EXACT)


def test_sequential_plate_gives_a_site_per_index():
    def model(y):
        for i in pyro.plate("item", 3):
            mu = pyro.sample(f"mu_{i}", dist.Normal(0.0, 1.0))
            pyro.sample(f"y_{i}", dist.Normal(mu, 1.0), obs=y[i])

    program = build_program(model, (Y,))
    flat = np.array([0.1, 0.2, 0.3])
    assert value_and_gradient(program, flat)[0] == pytest.approx(
        log_normal_density(flat, 0, 1).sum() + log_normal_density(Y, flat, 1).sum(), **EXACT
    )


def test_parameters_are_held_at_their_initial_values_or_as_given():
    def model(y):
        scale = pyro.param("scale", torch.tensor(2.0), constraint=constraints.positive)
        mu = pyro.sample("mu", dist.Normal(0.0, scale))
        pyro.sample("y", dist.Normal(mu, 1.0).expand([3]).to_event(1), obs=y)

    program = build_program(model, (Y,))
    likelihood = log_normal_density(Y, 0.4, 1).sum()
    assert value_and_gradient(program, [0.4])[0] == pytest.approx(log_normal_density(0.4, 0, 2) + likelihood, **EXACT)
    other = program.with_parameters(program.parameters.replaced({"scale": torch.tensor(3.0), "unknown": Y}))
    assert value_and_gradient(other, [0.4])[0] == pytest.approx(log_normal_density(0.4, 0, 3) + likelihood, **EXACT)
    assert value_and_gradient(program, [0.4])[0] == pytest.approx(log_normal_density(0.4, 0, 2) + likelihood, **EXACT)


def masked_and_scaled(y, mask):
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0).mask(False))
    with pyro.plate("row", len(y)), poutine.mask(mask=mask), poutine.scale(scale=0.5):
        pyro.sample("y", dist.Normal(mu, 1.0), obs=y)
    pyro.factor("penalty", -(mu**4))


def test_mask_scale_and_factor():
    mask = np.array([True, False, True])
    program = build_program(masked_and_scaled, (Y, mask))
    assert [site.name for site in program.sites.latent] == ["mu"]
    wanted = 0.5 * log_normal_density(Y, 0.4, 1.0)[mask].sum() - 0.4**4
    assert value_and_gradient(program, [0.4])[0] == pytest.approx(wanted, **EXACT)


def test_masked_observations_have_no_log_likelihood():
    mask = np.array([True, False, True])
    program = build_program(masked_and_scaled, (Y, mask))
    with program.isolated():
        found = program.log_likelihood({"mu": torch.tensor(0.4, dtype=torch.float64)})["y"]
    assert found.tolist() == pytest.approx(np.where(mask, log_normal_density(Y, 0.4, 1.0), 0.0), **EXACT)


def test_missing_observation_is_a_latent():
    def model(y=None):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        with pyro.plate("row", 3):
            pyro.sample("y", dist.Normal(mu, 1.0), obs=y)

    program = build_program(model, {"y": None})
    assert [site.name for site in program.sites.latent] == ["mu", "y"]
    flat = np.array([0.2, 1.0, 2.0, 3.0])
    wanted = log_normal_density(0.2, 0, 1) + log_normal_density(flat[1:], 0.2, 1).sum()
    assert value_and_gradient(program, flat)[0] == pytest.approx(wanted, **EXACT)


def test_deterministics_follow_the_latents_and_keep_their_plates():
    def model():
        mu = pyro.sample("mu", dist.LogNormal(0.0, 1.0))
        with pyro.plate("row", 3):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.deterministic("shifted", mu + z)
            pyro.deterministic("pair", torch.stack([z, mu + z], -1), event_dim=1)

    program = build_program(model, ())
    assert program.sites["shifted"].dims() == ("row",)
    assert program.sites["pair"].dims()[0] == "row"
    (flat,) = points(program, 1)
    with program.isolated():
        values = program.constrain(flat)
        log_joint, deterministic = program.log_joint_and_deterministics({name: values[name] for name in ("mu", "z")})
        assert float(log_joint) == float(program.log_joint(values))
    assert set(values) == {"mu", "z", "shifted", "pair"}
    torch.testing.assert_close(values["shifted"], flat[0].exp() + flat[1:])
    torch.testing.assert_close(deterministic["pair"], values["pair"])


def test_observed_expression_of_the_data():
    def model(y):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        pyro.sample("logged", dist.Normal(mu, 1.0).expand([2]).to_event(1), obs=y[:2].log())

    program = build_program(model, (np.array([1.0, 2.0, 3.0]),))
    assert program.observed_values["logged"].tolist() == pytest.approx(np.log([1.0, 2.0]))


def test_float32():
    program = build_program(nested, (np.zeros((3, 2)),), dtype=torch.float32)
    value, gradient = value_and_gradient(program, points(program, 1)[0])
    assert gradient.dtype == torch.float32
    assert np.isfinite(value)


def test_order_of_the_flat_vector_is_the_order_of_the_model():
    program = build_program(nested, (np.zeros((3, 2)),))
    assert list(program.slices) == ["top", "low", "pair"]
    assert [where.stop - where.start for where, _ in program.slices.values()] == [1, 2, 12]
    assert program.num_dims == 15
