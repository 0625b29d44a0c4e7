"""MCMC: kernels against closed forms and each other, starts, and what is refused."""

import json
import warnings

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from arviz_stats.base import array_stats
from closed_forms import COVARIANCE, DATA, MEAN, SD, Y, log_posterior, regression

import ppl_models as ppl
from ppl_models.errors import BaselineWarning, DataError, ModelError, OptionError, UnknownNameError
from ppl_models.inference.mcmc.starts import NUM_TRIES

SHORT = {"chains": 1, "warmup": 30, "draws": 20, "backend": "eager"}
Z = 5.0


def short(model, data, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BaselineWarning)
        return ppl.sample(model, data, **{**SHORT, **options})


@pytest.fixture(scope="module")
def nutpie():
    return ppl.sample(regression, DATA, chains=4, warmup=300, draws=1_000, seed=1, dims={"weights": ["term"]})


@pytest.fixture(scope="module")
def pyro_nuts():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BaselineWarning)
        return ppl.sample(regression, DATA, chains=2, warmup=200, draws=400, seed=1, kernel="pyro_nuts")


def moments(tree):
    """Mean, sd and their Monte Carlo standard errors, from the effective sample sizes of these very functions."""
    draws = tree["posterior"]["weights"].values
    found = []
    for column in np.moveaxis(draws, -1, 0):
        errors = [array_stats.mcse(column, chain_axis=0, draw_axis=1, method=method) for method in ("mean", "sd")]
        found.append([column.mean(), column.std(ddof=1), *map(float, errors)])
    return np.array(found).T


@pytest.mark.statistical
@pytest.mark.native
def test_nutpie_agrees_with_the_closed_form(nutpie):
    mean, sd, mean_error, sd_error = moments(nutpie)
    assert (np.abs(mean - MEAN.numpy()) < Z * mean_error).all()
    assert (np.abs(sd - SD.numpy()) < Z * sd_error).all()
    # beside the errors of the moments, their sizes: a thousand effective draws at least
    assert (mean_error < SD.numpy() / np.sqrt(1_000)).all()


@pytest.mark.statistical
@pytest.mark.native
def test_pyro_nuts_agrees_with_the_closed_form_and_with_nutpie(pyro_nuts, nutpie):
    mean, sd, mean_error, sd_error = moments(pyro_nuts)
    assert (np.abs(mean - MEAN.numpy()) < Z * mean_error).all()
    assert (np.abs(sd - SD.numpy()) < Z * sd_error).all()
    other = moments(nutpie)
    assert (np.abs(mean - other[0]) < Z * np.hypot(mean_error, other[2])).all()
    assert (np.abs(sd - other[1]) < Z * np.hypot(sd_error, other[3])).all()


@pytest.mark.native
@pytest.mark.parametrize("kernel", ["nutpie", "pyro_nuts"])
def test_statistics_of_the_draws(kernel, request):
    tree = request.getfixturevalue(kernel)
    stats = tree["sample_stats"].to_dataset()
    draws = torch.as_tensor(tree["posterior"]["weights"].values)
    assert {"diverging", "lp", "energy"} <= set(stats.data_vars)
    assert not stats["diverging"].any()
    lp = stats["lp"].values - log_posterior(draws).numpy()
    np.testing.assert_allclose(lp, lp[0, 0], rtol=0, atol=1e-9)  # they differ by the evidence
    # energy is potential plus kinetic energy, whose mean is half the number of dimensions; Pyro's is that of the start
    # of the transition, which the trajectory keeps but for its integration error
    kinetic = stats["energy"].values + stats["lp"].values
    assert kernel == "pyro_nuts" or (kinetic > -1e-9).all()
    assert abs(kinetic.mean() - 1.0) < Z * float(array_stats.mcse(kinetic, chain_axis=0, draw_axis=1, method="mean"))


@pytest.mark.native
def test_tree_tells_what_made_it(nutpie):
    assert nutpie.attrs["kernel"] == "nutpie"
    assert nutpie.attrs["backend"] == "native"
    config = json.loads(nutpie.attrs["config"])
    assert (config["chains"], config["warmup"], config["draws"], config["seed"]) == (4, 300, 1_000, 1)
    gates = json.loads(nutpie.attrs["gates"])
    assert set(gates) == {"R-hat", "bulk ESS", "tail ESS", "divergences"}
    assert all(gate["passed"] for gate in gates.values())
    assert nutpie["posterior"]["weights"].dims == ("chain", "draw", "term")
    assert set(nutpie.children) == {"posterior", "sample_stats", "observed_data", "constant_data"}


@pytest.mark.parametrize("kernel", ["nutpie", "pyro_nuts"])
def test_same_seed_same_draws(kernel):
    first, again, other = (
        short(regression, DATA, kernel=kernel, seed=seed)["posterior"]["weights"].values for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_chains_differ():
    draws = short(regression, DATA, chains=2)["posterior"]["weights"].values
    assert not np.array_equal(draws[0], draws[1])


@pytest.mark.native
def test_backends_give_the_same_first_draws():
    """Rounding differs in the last digits, which a trajectory magnifies; the first few draws agree."""
    options = {"warmup": 5, "draws": 3, "seed": 4}
    fast = short(regression, DATA, backend="inductor", **options)["posterior"]["weights"].values
    slow = short(regression, DATA, backend="eager", **options)["posterior"]["weights"].values
    np.testing.assert_allclose(fast, slow, rtol=1e-6)


def test_short_chain_is_warned_of():
    with pytest.warns(BaselineWarning, match=r"bulk ESS.*Draw more"):
        tree = ppl.sample(regression, DATA, seed=0, **SHORT)
    assert json.loads(tree.attrs["gates"])["bulk ESS"]["passed"] is False


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"kernel": "nuts"}, UnknownNameError, ["kernel", "'nuts'", "nutpie"]),
        ({"backend": "numba"}, UnknownNameError, ["backend", "'numba'"]),
        ({"chains": 0}, OptionError, ["chains", "0"]),
        ({"draws": 0}, OptionError, ["draws"]),
        ({"warmup": -1}, OptionError, ["warmup"]),
        ({"target_accept": 1.0}, OptionError, ["target_accept"]),
        ({"target_accept": "high"}, OptionError, ["target_accept"]),
        ({"seed": -1}, OptionError, ["seed"]),
        ({"include": "posterior"}, DataError, ["include"]),
    ],
)
def test_options_are_refused(options, error, words):
    with pytest.raises(error) as caught:
        ppl.sample(regression, DATA, **options)
    assert all(word in str(caught.value) for word in words), caught.value


def test_discrete_latent_is_refused_and_an_enumerated_one_summed_out():
    def model(y, infer=None):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        with pyro.plate("row", len(y)):
            flip = pyro.sample("flip", dist.Bernoulli(0.5), infer=infer or {})
            pyro.sample("y", dist.Normal(mu + flip, 1.0), obs=y)

    with pytest.raises(ModelError, match=r"'flip'.*enumerate"):
        ppl.sample(model, (Y,), **SHORT)
    tree = short(model, (Y, {"enumerate": "parallel"}), include="posterior_predictive")
    assert set(tree["posterior"].data_vars) == {"mu"}
    assert tree["posterior_predictive"]["y"].shape == (1, 20, 4)


def test_parameters_are_held_as_given():
    def model(y):
        centre = pyro.param("centre", torch.tensor(0.0))
        pyro.sample("mu", dist.Normal(centre, 1e-3))

    for kernel in ("nutpie", "pyro_nuts"):
        tree = short(model, (Y,), kernel=kernel, parameters={"centre": torch.tensor(7.0)})
        assert abs(float(tree["posterior"]["mu"].mean()) - 7.0) < 0.01
        assert json.loads(tree.attrs["config"])["fixed_parameters"] == ["centre"]


@pytest.mark.parametrize("kernel", ["nutpie", "pyro_nuts"])
def test_model_without_a_start_names_the_site(kernel):
    def model(y):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        with pyro.plate("row", len(y)):
            pyro.sample("y", dist.Normal(mu, 1.0), obs=y)
        pyro.sample("other", dist.Normal(mu, 1.0), obs=torch.tensor(0.0))

    data = (torch.tensor([0.0, float("inf")]),)
    with pytest.raises(ModelError, match=r"no start found.*site 'y'"):
        ppl.sample(model, data, **{**SHORT, "kernel": kernel})


def test_start_outside_the_cube_is_taken_from_the_prior():
    """Finite only above 50: uniform starts on (-2, 2) all fail, draws of the prior do not."""

    def model():
        mu = pyro.sample("mu", dist.Normal(100.0, 10.0))
        pyro.factor("cliff", torch.where(mu > 50, 0.0, -torch.inf))

    draws = short(model, {})["posterior"]["mu"].values
    assert (draws > 50).all()
    assert NUM_TRIES >= 100


@pytest.mark.parametrize("kernel", ["nutpie", "pyro_nuts"])
def test_failing_cholesky_is_a_rejected_point(kernel):
    """Correlations beyond one have no Cholesky factor; the chain stays within."""
    seen = []

    def model():
        r = pyro.sample("r", dist.Normal(0.0, 0.4))
        off = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
        try:
            pyro.sample("y", dist.MultivariateNormal(torch.zeros(2), torch.eye(2) + r * off), obs=torch.ones(2))
        except RuntimeError:
            seen.append(float(r.detach()))
            raise

    draws = short(model, {}, kernel=kernel, seed=3, draws=50)["posterior"]["r"].values
    assert len(seen) > 0
    assert (np.abs(draws) < 1).all()


def test_deterministics_and_further_groups_by_chain():
    def model(y):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        with pyro.plate("row", len(y)):
            pyro.deterministic("shifted", mu + y)
            pyro.sample("y", dist.Normal(mu, 1.0), obs=y)

    groups = ("log_likelihood", "posterior_predictive", "prior")
    tree = short(model, (Y,), chains=2, include=groups)
    assert {*groups, "posterior"} <= set(tree.children)
    for name in ("log_likelihood", "posterior_predictive"):
        assert tree[name]["y"].sizes == {"chain": 2, "draw": 20, "row": 4}
    shifted = tree["posterior"]["mu"].values[..., None] + Y.numpy()
    np.testing.assert_allclose(tree["posterior"]["shifted"].values, shifted, rtol=1e-12)


def test_moving_support_stays_inside():
    def model():
        top = pyro.sample("top", dist.LogNormal(0.0, 1.0))
        pyro.sample("low", dist.Uniform(0.0, top))

    posterior = short(model, {})["posterior"]
    assert ((posterior["low"] > 0) & (posterior["low"] < posterior["top"])).all()


@pytest.mark.statistical
@pytest.mark.native
def test_covariance_of_the_draws(nutpie):
    """The product of the two deviations has the covariance as its mean; its error comes from its own ESS."""
    away = nutpie["posterior"]["weights"].values - MEAN.numpy()
    product = away[..., 0] * away[..., 1]
    error = float(array_stats.mcse(product, chain_axis=0, draw_axis=1, method="mean"))
    assert abs(product.mean() - float(COVARIANCE[0, 1])) < Z * error
