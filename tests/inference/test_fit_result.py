"""What a fit gives: draws, predictions, the ELBO, and a printed account of itself."""

from dataclasses import replace

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from closed_forms import DATA, X, log_normal_density, regression

import ppl_models as ppl
from ppl_models.errors import DataError, ModelError, OptionError


def groups(x, y=None):
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    with pyro.plate("row", len(x)):
        pyro.deterministic("mean", mu * x)
        pyro.sample("y", dist.Normal(mu * x, 1.0), obs=y)


def local(y):
    with pyro.plate("row", len(y)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)


@pytest.fixture(scope="module")
def fit():
    data = {"x": np.array([1.0, 2.0, 3.0]), "y": np.array([0.5, 1.5, 2.5])}
    return ppl.fit(groups, data, guide="full_rank", max_steps=200, seed=0, coords={"row": ["a", "b", "c"]})


def test_groups_and_dims(fit):
    tree = fit.sample(7, seed=1, include=("log_likelihood", "posterior_predictive", "prior", "prior_predictive"))
    assert set(tree.children) == {
        *("posterior", "sample_stats", "observed_data", "constant_data"),
        *("log_likelihood", "posterior_predictive", "prior", "prior_predictive"),
    }
    assert tree["posterior"]["mean"].dims == ("chain", "draw", "row")
    assert tree["posterior"]["row"].values.tolist() == ["a", "b", "c"]
    assert tree["log_likelihood"]["y"].sizes == {"chain": 1, "draw": 7, "row": 3}
    assert tree.attrs["guide"] == "full_rank"
    assert tree.attrs["sample_seed"] == 1
    mu = tree["posterior"]["mu"].values
    np.testing.assert_allclose(tree["posterior"]["mean"], mu[..., None] * [1.0, 2.0, 3.0], rtol=1e-12)
    likelihood = tree["log_likelihood"]["y"].sum("row").values
    np.testing.assert_allclose(tree["sample_stats"]["log_p"] - log_normal_density(mu, 0, 1), likelihood, rtol=1e-12)


def test_seeds(fit):
    first, again, other = (fit.sample(5, seed=seed)["posterior"]["mu"].values for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert len(np.unique(first)) == 5


def test_adding_a_group_does_not_move_the_draws(fit):
    plain, more = fit.sample(5, seed=1), fit.sample(5, seed=1, include="posterior_predictive")
    assert np.array_equal(plain["posterior"]["mu"], more["posterior"]["mu"])


@pytest.mark.parametrize("options", [{"num_draws": 0}, {"num_draws": -1}, {"num_draws": 1.5}, {"seed": -1}], ids=str)
@pytest.mark.parametrize("method", ["sample", "predict", "elbo", "log_ratio"])
def test_options_are_refused(fit, method, options):
    (name,) = options
    with pytest.raises(OptionError, match=name):
        getattr(fit, method)(**options)


def test_unknown_group_is_refused(fit):
    with pytest.raises(DataError, match="'loglik'"):
        fit.sample(5, include="loglik")


def test_elbo_is_the_mean_log_ratio(fit):
    ratio = fit.log_ratio(500, seed=3)
    elbo, error = fit.elbo(500, seed=3)
    assert elbo == pytest.approx(ratio.mean())
    assert error == pytest.approx(ratio.std(ddof=1) / np.sqrt(500))


def test_predictions_of_the_same_data(fit):
    tree = fit.predict(6, seed=1)
    assert tree["posterior_predictive"]["y"].sizes == {"chain": 1, "draw": 6, "row": 3}
    assert np.array_equal(tree["posterior"]["mu"], fit.sample(6, seed=1)["posterior"]["mu"])


def test_predictions_of_new_data(fit):
    tree = fit.predict(400, data={"x": np.array([0.0, 100.0]), "y": None}, seed=1)
    assert "posterior_predictive" not in tree.children
    y = tree["predictions"]["y"]
    assert y.sizes == {"chain": 1, "draw": 400, "row": 2}
    mu = fit.sample(400, seed=1)["posterior"]["mu"].values
    # the noise has sd 1, and the rows' means are 0 and 100 mu
    assert np.abs(y.values[..., 1] - 100 * mu).max() < 6
    assert np.abs(y.values[..., 0]).max() < 6


def test_new_data_are_checked(fit):
    with pytest.raises(DataError, match="'x'"):
        fit.predict(2, data={"y": None})
    of_rows = ppl.fit(local, (np.zeros(3),), guide="normal", max_steps=2, seed=0)
    with pytest.raises(ModelError, match="new fit"):
        of_rows.predict(2, data=(np.zeros(5),))


def test_prints_as_a_short_table(fit):
    lines = repr(fit).splitlines()
    assert lines[0] == "Fit"
    text = " ".join(lines)
    assert all(word in text for word in ["full_rank", fit.status, "ELBO", "nats", "200", "eager", "float64", "mu"])
    assert len(lines) < 12
    assert max(map(len, lines)) < 120


def test_html_is_escaped():
    def guide(x, y=None):
        pyro.sample("weights", dist.Normal(pyro.param("<b>", torch.zeros(2)), 1.0).to_event(1))

    guide.__name__ = "<script>alert(1)</script>"
    page = ppl.fit(regression, DATA, guide=guide, max_steps=2, seed=0)._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_carries_what_made_it(fit):
    assert fit.config["seed"] == 0
    assert fit.config["max_steps"] == 200
    assert fit.config["step_size"] == "auto"
    assert fit.config["versions"]["torch"] == torch.__version__
    assert fit.seconds > 0
    assert fit.steps == len(fit.losses)


def test_parameters_have_their_supports():
    fit = ppl.fit(regression, {"x": X, "y": DATA["y"]}, guide="normal", max_steps=2, seed=0)
    assert set(fit.parameters) == {"AutoNormal.locs.weights", "AutoNormal.scales.weights"}
    assert (fit.parameters["AutoNormal.scales.weights"] > 0).all()


@pytest.mark.parametrize(
    ("name", "row", "objective"),
    [
        ("importance_weighted", "estimator importance_weighted\n", "bound "),
        ("gumbel_softmax", "estimator gumbel_softmax (biased)\n", "ELBO "),
        ("straight_through", "estimator straight_through (biased)\n", "ELBO "),
        ("score", "estimator score\n", "ELBO "),
    ],
)
def test_the_estimator_is_named_and_its_bound_called_so(fit, name, row, objective):
    text = repr(replace(fit, config={**fit.config, "estimator": name, "estimator_options": {}}))
    assert row in text
    assert f"\n  {objective}" in text


def test_the_usual_estimator_is_named_where_it_was_asked_for(fit):
    assert fit.config["estimator"] in ("total", "sticking_the_landing")
    assert "estimator" not in repr(fit)
    asked = ppl.fit(local, {"y": np.ones(2)}, guide="normal", max_steps=2, estimator="sticking_the_landing")
    assert "estimator sticking_the_landing\n" in repr(asked)
