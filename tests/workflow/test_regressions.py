"""Mistakes and everyday uses that once went wrong for a first-time user."""

import json
import warnings

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import MCMC, NUTS, Predictive

import ppl_models as ppl
from ppl_models.errors import DataError
from ppl_models.program import isolated

ROWS = 12
X = np.linspace(-1.0, 1.0, ROWS)


def line(x, y=None):
    slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
    with pyro.plate("row", len(x)):
        pyro.sample("y", dist.Normal(slope * x, 0.5), obs=y)


def learnt_noise(y):
    noise = pyro.param("noise", torch.tensor(1.0), constraint=dist.constraints.positive)
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    with pyro.plate("row", len(y)):
        pyro.sample("y", dist.Normal(mean, noise), obs=y)


@pytest.mark.parametrize(
    "data", [{"x": X, "y": pd.DataFrame({"y": X})}, {"x": X[:, None], "y": X}], ids=["column frame", "column array"]
)
def test_a_broadcast_that_counts_the_data_several_times_is_refused(data):
    with pytest.raises(DataError, match=r"site 'y' \(argument 'y'\).*\(12, 12\)"):
        ppl.fit(line, data, guide="normal", max_steps=5)


def test_a_vector_likelihood_without_plate_or_event_dim_is_refused():
    def bare(x, y=None):
        slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(slope * x, 0.5), obs=y)

    with pytest.raises(DataError, match="put the site into a plate"):
        ppl.fit(bare, {"x": X, "y": X}, guide="normal", max_steps=5)


@pytest.mark.native
@pytest.mark.slow
def test_nuts_samples_a_model_with_parameters_compiled_and_says_where_they_stand():
    with pytest.warns(ppl.PPLWarning, match="'noise'.*initial values"):
        tree = ppl.sample(learnt_noise, {"y": X + 0.3}, seed=1)
    assert tree.attrs["backend"] == "native"
    # the posterior given noise = 1, in closed form
    variance = 1.0 / (1.0 + ROWS)
    draws = tree["posterior"]["mean"].values.ravel()
    ess = json.loads(tree.attrs["gates"])["bulk ESS"]["value"]
    assert abs(draws.mean() - variance * (X + 0.3).sum()) < 5 * np.sqrt(variance / ess)


def test_predictive_draws_of_two_chains_keep_their_axes():
    with isolated(seed=0), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pyro's, on running chains one by one
        x, y = torch.as_tensor(X, dtype=torch.float32), torch.as_tensor(X, dtype=torch.float32)
        mcmc = MCMC(NUTS(line), num_samples=6, warmup_steps=4, disable_progbar=True)
        mcmc.run(x, y)
        predicted = Predictive(line, mcmc.get_samples())(x)
        tree = ppl.to_datatree(mcmc, posterior_predictive=predicted, model=line, data=(x, y))
    assert dict(tree["posterior_predictive"]["y"].sizes) == {"chain": 1, "draw": 6, "row": ROWS}


def test_labels_come_back_with_a_saved_fit(tmp_path):
    labels = {"coords": {"row": [f"r{i}" for i in range(ROWS)]}}
    fit = ppl.fit(line, {"x": X, "y": X}, guide="normal", max_steps=5, **labels)
    loaded = ppl.load_fit(fit.save(tmp_path / "fit.safetensors"), line, {"x": X, "y": X})
    assert loaded.sample(2)["observed_data"]["row"].values.tolist() == labels["coords"]["row"]


def test_the_mode_of_laplace_is_not_called_an_elbo():
    fit = ppl.fit(line, {"x": X, "y": X}, guide="laplace", max_steps=200)
    assert "ELBO" not in repr(fit)
    assert "log p" in repr(fit)


def test_new_covariates_have_the_group_that_arviz_gives_them():
    fit = ppl.fit(line, {"x": X, "y": X}, guide="normal", max_steps=5)
    tree = fit.predict(3, data={"x": X[:4], "y": None})
    assert tree["predictions_constant_data"]["x"].shape == (4,)
    assert "constant_data" not in tree.children


@pytest.mark.parametrize("dtype", [int, bool, "Int64"])
def test_outcomes_may_be_whole_numbers_or_truth_values(dtype):
    def coin(y):
        chance = pyro.sample("chance", dist.Beta(1.0, 1.0))
        with pyro.plate("row", len(y)):
            pyro.sample("y", dist.Bernoulli(chance), obs=y)

    outcomes = pd.Series([1, 0, 1, 1]).astype(dtype)
    fit = ppl.fit(coin, {"y": outcomes}, guide="normal", max_steps=5)
    assert fit.program.observed_values["y"].tolist() == [1.0, 0.0, 1.0, 1.0]
    with pytest.raises(DataError, match="argument 'y'"):
        ppl.fit(coin, {"y": np.array([1, 0, 7, 1])}, guide="normal", max_steps=5)
