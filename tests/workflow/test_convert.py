"""`ppl.to_datatree`: Pyro's own draws in ArviZ's schema; and `ppl.sample_prior`."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from closed_forms import DATA, regression
from pyro.infer import MCMC, NUTS, Predictive
from pyro.nn import PyroModule, PyroSample
from randomness import seeded
from torch import nn

import ppl_models as ppl
from ppl_models.errors import DataError, OptionError

Y = torch.tensor([0.5, 1.5, 2.5])


def model(y=None):
    mu = pyro.sample("mu", dist.Normal(0.0, 2.0))
    with pyro.plate("row", 3):
        pyro.deterministic("double", 2 * mu.expand(3))
        return pyro.sample("y", dist.Normal(mu, 1.0), obs=y)


@pytest.fixture
def mcmc():
    with seeded(), pyro.get_param_store().scope():
        run = MCMC(NUTS(model), num_samples=12, warmup_steps=8, num_chains=1, disable_progbar=True)
        run.run(Y)
    return run


def test_from_mcmc(mcmc):
    tree = ppl.to_datatree(mcmc, model=model, data=(Y,), coords={"row": ["a", "b", "c"]})
    assert set(tree.children) == {"posterior", "sample_stats", "observed_data"}
    np.testing.assert_array_equal(tree["posterior"]["mu"].values[0], mcmc.get_samples()["mu"].numpy())
    assert tree["posterior"]["double"].dims == ("chain", "draw", "row")
    np.testing.assert_allclose(
        tree["posterior"]["double"].values, 2 * tree["posterior"]["mu"].values[..., None].repeat(3, -1)
    )
    assert tree["observed_data"]["row"].values.tolist() == ["a", "b", "c"]
    assert tree["sample_stats"]["diverging"].sizes == {"chain": 1, "draw": 12}
    assert tree.attrs["inference_library"] == "pyro-ppl"


def test_from_mcmc_alone(mcmc):
    tree = ppl.to_datatree(mcmc)
    assert tree["posterior"]["mu"].sizes == {"chain": 1, "draw": 12}


def test_divergences_stand_where_they_were(mcmc, monkeypatch):
    monkeypatch.setattr(mcmc, "diagnostics", lambda: {"divergences": {"chain 0": [2, 5]}})
    assert np.flatnonzero(ppl.to_datatree(mcmc)["sample_stats"]["diverging"].values[0]).tolist() == [2, 5]


def test_from_predictive_and_dicts():
    with seeded():
        prior = Predictive(model, num_samples=6)()
        draws = Predictive(model, posterior_samples={"mu": torch.ones(4)})()
    tree = ppl.to_datatree(
        {"mu": torch.ones(4)},
        prior={"mu": prior["mu"]},
        posterior_predictive={"y": draws["y"]},
        model=model,
        data=(Y,),
    )
    # Pyro gives sites outside the plates axes of length one
    assert prior["mu"].shape == (6, 1)
    assert tree["posterior_predictive"]["y"].dims == ("chain", "draw", "row")
    assert tree["prior"]["mu"].sizes == {"chain": 1, "draw": 6}


def test_by_chain():
    draws = np.arange(24.0).reshape(2, 4, 3)
    assert ppl.to_datatree({"z": draws}, by_chain=True)["posterior"]["z"].sizes["chain"] == 2
    assert ppl.to_datatree({"z": draws})["posterior"]["z"].shape == (1, 2, 4, 3)


def test_module_in_float32_with_data_in_float64():
    class Bayesian(PyroModule):
        def __init__(self):
            super().__init__()
            self.linear = PyroModule[nn.Linear](2, 1)
            self.linear.weight = PyroSample(dist.Normal(0.0, 1.0).expand([1, 2]).to_event(2))

        def forward(self, x, y=None):
            mean = self.linear(x).squeeze(-1)
            with pyro.plate("row", len(x)):
                return pyro.sample("y", dist.Normal(mean, 1.0), obs=y)

    with seeded():
        module = Bayesian()
    tree = ppl.to_datatree({"linear.weight": torch.zeros(5, 1, 2)}, model=module, data=DATA)
    assert tree["observed_data"]["y"].dims == ("row",)
    assert all(parameter.dtype == torch.float32 for parameter in module.parameters())


@pytest.mark.parametrize(
    ("samples", "options", "words"),
    [
        ({}, {}, ["posterior", "dict"]),
        ([1.0], {}, ["posterior", "list"]),
        ({"a": torch.zeros(3), "b": torch.zeros(4)}, {}, ["differ"]),
        ({"mu": torch.zeros(3)}, {"model": model}, ["both"]),
        ({"mu": torch.zeros(3)}, {"data": (Y,)}, ["both"]),
        (MCMC(NUTS(model), num_samples=2, warmup_steps=2, disable_progbar=True), {}, ["run"]),
    ],
)
def test_what_cannot_be_converted_is_said(samples, options, words):
    with pytest.raises(DataError) as caught:
        ppl.to_datatree(samples, **options)
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.statistical
def test_prior_draws_have_their_moments():
    """mu ~ N(0, 2²) and y_i | mu ~ N(mu, 1): variance 5; means and variances within 5 standard errors."""
    tree = ppl.sample_prior(model, (Y,), num_draws=2_000, seed=1)
    for draws, variance in ((tree["prior"]["mu"], 4.0), (tree["prior_predictive"]["y"].isel(row=1), 5.0)):
        values = draws.values.ravel()
        assert values.shape == (2_000,)
        assert abs(values.mean()) < 5 * np.sqrt(variance / 2_000)
        assert abs(values.var() - variance) < 5 * variance * np.sqrt(2 / 2_000)


def test_prior_without_observations():
    tree = ppl.sample_prior(model, {"y": None}, num_draws=4, seed=1)
    assert tree["prior_predictive"]["y"].sizes == {"chain": 1, "draw": 4, "row": 3}
    assert "y" not in tree["prior"].data_vars


def test_prior_of_a_module_leaves_it_alone():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, x, y=None):
            pyro.module("scaled", self)
            return regression(x * self.scale, y)

    module = Scaled()
    ppl.sample_prior(module, DATA, num_draws=3)
    assert module.scale.dtype == torch.float32


def test_prior_options_are_refused():
    with pytest.raises(OptionError, match="num_draws"):
        ppl.sample_prior(model, (Y,), num_draws=0)
    with pytest.raises(OptionError, match="seed"):
        ppl.sample_prior(model, (Y,), seed=-1)
