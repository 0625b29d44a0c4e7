"""Amortised guides in `ppl.fit`: every family captured, other rows, weights by datum, saving, shared encoders."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from engine.steps import Plain, by_hand, compiled, elbo_of, losses_of
from torch import nn

import guides
import ppl_models as ppl
from guides.amortization import NormalHead
from ppl_models.autoencoders.priors import VampPrior
from ppl_models.errors import DataError, GuideError

LOADINGS = torch.tensor([[1.0, 0.8], [0.7, 0.9], [0.5, -0.4], [0.9, 0.8]], dtype=torch.float64)
FAMILIES = pytest.mark.parametrize("family", ["normal", "full_rank", "iaf", "realnvp"])


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    """Networks begin at random weights, drawn from torch's generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


class Decoder(nn.Module):
    """z ~ N(0, I), x ~ N(W z + b, noise²), with b and noise learnt."""

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(4, dtype=torch.float64))

    def forward(self, x=None, num_rows=3):
        pyro.module("decoder", self)
        with pyro.plate("datum", num_rows if x is None else len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            mean = z @ LOADINGS.T.to(z) + self.bias
            return pyro.sample("x", dist.Normal(mean, 0.6).to_event(1), obs=x)


def data(num_rows):
    generator = torch.Generator().manual_seed(3)
    z, noise = (torch.randn(num_rows, size, generator=generator, dtype=torch.float64) for size in (2, 4))
    return {"x": z @ LOADINGS.T + 0.6 * noise}


@FAMILIES
def test_every_family_is_captured_and_its_particles_are_vectorised(family):
    model = Decoder()
    guide = guides.amortized(model, family=family, hidden=(6,))
    with elbo_of(model, data(5), guide, particles=3) as elbo:
        elbo.prove()
        losses = losses_of(compiled(elbo, Plain()), 5)
        np.testing.assert_allclose(losses, by_hand(elbo, 5)[0], rtol=1e-9)


def positive(x):
    with pyro.plate("datum", len(x)):
        rate = pyro.sample("rate", dist.Gamma(2.0, 1.0))
        shares = pyro.sample("shares", dist.Dirichlet(torch.ones(3)))
        pyro.sample("x", dist.Poisson(rate[:, None] * shares).to_event(1), obs=x)


def test_bounded_latents_and_conditional_factors_are_captured():
    guide = guides.amortized(positive, family={"rate": "normal", "shares": "iaf"}, hidden=(6,))
    with elbo_of(positive, {"x": torch.tensor([[1.0, 0.0, 2.0], [3.0, 1.0, 0.0]])}, guide, particles=2) as elbo:
        elbo.prove()
        np.testing.assert_allclose(losses_of(compiled(elbo, Plain()), 5), by_hand(elbo, 5)[0], rtol=1e-9)


@pytest.mark.native
@pytest.mark.exhaustive
@pytest.mark.parametrize("backend", ["inductor", "native"])
@FAMILIES
def test_compiled_backends_fit_every_family(backend, family):
    model = Decoder()
    fit = ppl.fit(model, data(20), guide=guides.amortized(model, family=family), max_steps=50, backend=backend, seed=1)
    eager = ppl.fit(
        model, data(20), guide=guides.amortized(model, family=family), max_steps=50, backend="eager", seed=1
    )
    assert fit.backend == backend
    assert np.mean(fit.losses[-10:]) < np.mean(fit.losses[:10])
    assert len(eager.parameters) == len(fit.parameters)


@pytest.fixture(scope="module")
def fitted():
    model = Decoder()
    guide = guides.amortized(model, family="full_rank", hidden=(8,))
    fit = ppl.fit(model, data(30), guide=guide, max_steps=200, step_size=0.03, num_particles=4, backend="eager", seed=1)
    return model, guide, fit


def test_a_fit_leaves_model_and_guide_as_they_were(fitted):
    model, guide, fit = fitted
    assert not model.bias.any()
    assert guide.layout is None
    assert fit.guide.model is not model
    assert fit.parameters["decoder$$$bias"].any()
    assert fit.guide_name == "AmortizedGuide"


@pytest.mark.parametrize("num_rows", [1, 7, 50])
def test_other_rows_get_posteriors_and_weights_of_their_own(fitted, num_rows):
    _, _, fit = fitted
    other = fit.at(data(num_rows))
    assert other.sample(10, seed=1).posterior["z"].shape == (1, 10, num_rows, 2)
    (check,) = ppl.check_by_datum(other, num_draws=1_000, seed=2)
    assert np.isfinite(check.value)
    assert "datum" in check.name


def test_a_row_of_a_fit_is_the_same_alone(fitted):
    _, _, fit = fitted
    whole, one = fit.at(data(30)), fit.at({"x": data(30)["x"][4:5]})
    num_draws = 2_000
    found = [f.sample(num_draws, seed=3).posterior["z"].values[0] for f in (whole, one)]
    assert found[0].shape == (num_draws, 30, 2)
    away = found[0][:, 4].mean(0) - found[1][:, 0].mean(0)
    error = np.sqrt(2.0 * found[1][:, 0].var(0) / num_draws)
    assert (np.abs(away) < 4.0 * error).all()


def test_a_guide_half_as_wide_is_seen_in_the_weights_by_datum(fitted):
    _, _, fit = fitted
    assert all(check.passed is not False for check in ppl.check_by_datum(fit, num_draws=1_000, seed=1))
    head = fit.guide.heads["z"]
    name = "amortized.heads.z.diagonal.scale"
    values = dict(fit.program.parameters.values)
    features = torch.zeros_like(head.diagonal.scale.weight)
    values[f"{name}.weight"], values[f"{name}.bias"] = features, torch.full_like(head.diagonal.scale.bias, -2.5)
    narrow = replace(fit, program=fit.program.with_parameters(replace(fit.program.parameters, values=values)))
    (check,) = ppl.check_by_datum(narrow, num_draws=1_000, seed=1)
    assert check.passed is False


def test_a_fit_is_saved_and_loaded(fitted, tmp_path):
    model, _, fit = fitted
    path = fit.save(tmp_path / "fit.safetensors")
    again = ppl.load_fit(path, model, data(30), guide=guides.amortized(model, family="full_rank", hidden=(8,)))
    for name, value in fit.sample(5, seed=4).posterior.items():
        np.testing.assert_allclose(again.sample(5, seed=4).posterior[name].values, value.values, rtol=1e-12)
    np.testing.assert_allclose(again.at(data(4)).log_ratio(10, seed=1), fit.at(data(4)).log_ratio(10, seed=1))


def test_a_saved_fit_serves_other_rows_where_that_is_said(fitted, tmp_path):
    model, _, fit = fitted
    path, guide = fit.save(tmp_path / "fit.safetensors"), guides.amortized(model, family="full_rank", hidden=(8,))
    with pytest.raises(DataError, match="other_data=True"):
        ppl.load_fit(path, model, data(4), guide=guide)
    again = ppl.load_fit(path, model, data(4), guide=guide, other_data=True)
    np.testing.assert_allclose(again.log_ratio(10, seed=1), fit.at(data(4)).log_ratio(10, seed=1))
    own = ppl.fit(model, data(8), guide="normal", max_steps=5, backend="eager", seed=1)
    with pytest.raises(GuideError, match="row"):
        ppl.load_fit(own.save(tmp_path / "own"), model, data(4), other_data=True)


def test_the_factory_alone_is_a_guide():
    fit = ppl.fit(Decoder(), data(8), guide=guides.amortized, max_steps=5, backend="eager", seed=1)
    assert fit.guide_name == "amortized"
    assert any(name.startswith("amortized.encoder.1") for name in fit.parameters)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_takes_the_dtype_of_the_fit(dtype):
    model = Decoder()
    guide = guides.amortized(model, encoder=nn.Linear(4, 6), family="iaf")
    fit = ppl.fit(model, data(8), guide=guide, max_steps=5, dtype=dtype, backend="eager", seed=1)
    assert {value.dtype for value in fit.parameters.values()} == {dtype}


class Vamp(nn.Module):
    """A prior made of the guide's own encoder and head, at two learnt inputs (Tomczak and Welling 2018)."""

    def __init__(self):
        super().__init__()
        self.encoder, self.head = nn.Linear(4, 6), NormalHead(6, 2, init_scale=0.5)
        self.prior = VampPrior(2, nn.Sequential(self.encoder, self.head), torch.eye(4)[:2])
        self.double()

    def forward(self, x):
        pyro.module("vamp", self)
        with pyro.plate("datum", len(x)):
            z = pyro.sample("z", self.prior())
            pyro.sample("x", dist.Normal(z @ LOADINGS.T.to(z), 0.6).to_event(1), obs=x)


def test_a_prior_made_of_the_encoder_is_captured_with_it():
    model = Vamp()
    guide = guides.amortized(model, encoder=model.encoder, family=model.head)
    with elbo_of(model, data(5), guide, particles=2) as elbo:
        assert all(name.startswith("vamp$$$") for name in elbo.holders)
        elbo.prove()
        np.testing.assert_allclose(losses_of(compiled(elbo, Plain()), 5), by_hand(elbo, 5)[0], rtol=1e-9)


def test_a_fit_with_a_shared_encoder_trains_one_copy_of_it():
    model = Vamp()
    guide = guides.amortized(model, encoder=model.encoder, family=model.head)
    before = model.encoder.weight.detach().clone()
    fit = ppl.fit(model, data(8), guide=guide, max_steps=10, backend="eager", seed=1)
    assert model.encoder.weight.equal(before)
    assert not fit.parameters["vamp$$$encoder.weight"].equal(before)
    assert fit.guide.encoder is fit.guide.model.encoder


def test_a_models_fault_comes_as_a_guide_error():
    def no_plate(x):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0).expand(x.shape).to_event(x.dim()), obs=x)

    with pytest.raises(GuideError, match="no data plate"):
        ppl.fit(no_plate, data(3), guide=guides.amortized(no_plate), max_steps=5)
