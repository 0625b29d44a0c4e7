"""Predictive draws and log likelihoods of a conjugate model, against its closed forms."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from closed_forms import log_normal_density

from ppl_models.errors import DataError, ModelError
from ppl_models.posterior import Labels, check_include, extra_groups, predictive_draws, prior_tree
from ppl_models.program import build_program

Y = np.array([0.3, -1.2, 2.5])
NUM_DRAWS = 4_000
POSTERIOR_VARIANCE = 1 / (1 / 4 + len(Y))
POSTERIOR_MEAN = POSTERIOR_VARIANCE * Y.sum()
Z = 5.0
"""Two-sided tail of 6e-7; there are fewer than 30 comparisons here."""


def model(x, y=None):
    mu = pyro.sample("mu", dist.Normal(0.0, 2.0))
    with pyro.plate("row", len(x)):
        pyro.deterministic("mean", mu + x)
        pyro.sample("y", dist.Normal(mu + x, 1.0), obs=y)


PROGRAM = build_program(model, {"x": np.zeros(3), "y": Y})


def posterior_values(num_draws=NUM_DRAWS):
    noise = np.random.default_rng(0).normal(size=num_draws)
    return {"mu": torch.as_tensor(POSTERIOR_MEAN + np.sqrt(POSTERIOR_VARIANCE) * noise)}


def assert_normal(draws, mean, variance):
    """Mean and variance of independent draws, within Z standard errors."""
    assert (np.abs(draws.mean(0) - mean) < Z * np.sqrt(variance / len(draws))).all()
    assert (np.abs(draws.var(0) - variance) < Z * variance * np.sqrt(2 / len(draws))).all()


def test_log_likelihood_is_log_joint_less_log_prior():
    values = posterior_values(50)
    groups = extra_groups(PROGRAM, values, (2, 25), ("log_likelihood",), seed=0)
    found, mu = groups["log_likelihood"]["y"], values["mu"].numpy()
    assert found.shape == (2, 25, 3)
    with PROGRAM.isolated():
        joint = np.array([float(PROGRAM.log_joint({"mu": value})) for value in values["mu"]])
    np.testing.assert_allclose(found.sum(-1).ravel(), joint - log_normal_density(mu, 0, 2), rtol=1e-12)
    np.testing.assert_allclose(found.reshape(50, 3), log_normal_density(Y, mu[:, None], 1.0), rtol=1e-12)


@pytest.mark.statistical
def test_posterior_predictive_has_its_moments():
    draws = predictive_draws(PROGRAM, posterior_values(), seed=1)
    assert list(draws) == ["y"]
    assert draws["y"].shape == (NUM_DRAWS, 3)
    y = draws["y"].numpy()
    assert_normal(y, POSTERIOR_MEAN, POSTERIOR_VARIANCE + 1)
    # two rows share mu: their difference has the variance of the noise only
    assert_normal(y[:, [0]] - y[:, [1]], 0.0, 2.0)


@pytest.mark.statistical
def test_prior_and_its_predictions_have_their_moments():
    tree = prior_tree(PROGRAM, Labels(), NUM_DRAWS, 2, {})
    prior, predicted = tree["prior"].to_dataset(), tree["prior_predictive"].to_dataset()
    assert prior["mean"].dims == ("chain", "draw", "row")
    assert predicted["y"].dims == ("chain", "draw", "row")
    assert set(prior.data_vars) == {"mu", "mean"}
    assert_normal(prior["mu"].values[0], 0.0, 4.0)
    assert_normal(predicted["y"].values[0], 0.0, 5.0)
    # prior and predictions are of the same draws
    assert_normal(predicted["y"].values[0] - prior["mean"].values[0], 0.0, 1.0)
    assert tree["observed_data"]["y"].values.tolist() == Y.tolist()


def test_all_groups_together():
    groups = extra_groups(
        PROGRAM, posterior_values(6), (3, 2), ("prior", "prior_predictive", "posterior_predictive"), seed=0
    )
    assert groups["posterior_predictive"]["y"].shape == (3, 2, 3)
    assert groups["prior_predictive"]["y"].shape == (1, 2, 3)
    assert groups["prior"]["mean"].shape == (1, 2, 3)


def test_same_seed_same_draws():
    first, second = (predictive_draws(PROGRAM, posterior_values(4), seed=3)["y"] for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, predictive_draws(PROGRAM, posterior_values(4), seed=4)["y"])


def test_new_covariates():
    program = build_program(model, {"x": np.array([10.0, 20.0]), "y": None})
    draws = predictive_draws(program, posterior_values(8), seed=0)
    assert draws["y"].shape == (8, 2)
    assert (draws["y"][:, 1] > draws["y"][:, 0]).all()


def test_local_latents_of_other_data_are_refused():
    def local(y):
        with pyro.plate("row", len(y)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("y", dist.Normal(z, 1.0), obs=y)

    program = build_program(local, (np.zeros(5),))
    with pytest.raises(ModelError, match="new fit"):
        predictive_draws(program, {"z": torch.zeros(4, 3, dtype=torch.float64)}, seed=0)


def test_discrete_latents_are_drawn_too():
    def mixture(y):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        with pyro.plate("row", len(y)):
            flip = pyro.sample("flip", dist.Bernoulli(0.5), infer={"enumerate": "parallel"})
            pyro.sample("y", dist.Normal(mu + 100 * flip, 1.0), obs=y)

    program = build_program(mixture, (Y,))
    draws = predictive_draws(program, {"mu": torch.zeros(200, dtype=torch.float64)}, seed=0)["y"]
    high = (draws > 50).double().mean()
    assert abs(float(high) - 0.5) < Z * 0.5 / np.sqrt(draws.numel())


def test_include_is_checked():
    assert check_include("prior") == ("prior",)
    assert check_include(["prior", "log_likelihood"]) == ("prior", "log_likelihood")
    with pytest.raises(DataError, match=r"'posterior_predictives'.*log_likelihood"):
        check_include(("posterior_predictives",))
