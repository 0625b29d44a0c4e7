"""Missing values against the closed-form conditional normal, and chains that have not converged."""

import json

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from ppl_models.errors import DataError, ModelError, OptionError, UnknownNameError
from ppl_models.workflow.representation import impute
from ppl_models.workflow.representation.mixing import ess_columns, rhat_columns
from tests.workflow.representation.conftest import image_rows
from tests.workflow.representation.models import counts, fitted, linear

NUM_ROWS = 24


def rows_with_gaps(model, seed=3):
    x = model.draw(NUM_ROWS, seed).numpy()
    missing = np.random.default_rng(seed).random(x.shape) < 0.5
    missing[0], missing[1] = True, False  # nothing known, and everything
    return np.where(missing, np.nan, x), missing


def conditional(model, row):
    """Mean and covariance of the missing values of a row given the others."""
    gone, known = np.isnan(row), ~np.isnan(row)
    b, cov = model.b.numpy(), model.marginal.numpy()
    slope = cov[np.ix_(gone, known)] @ np.linalg.inv(cov[np.ix_(known, known)])
    return b[gone] + slope @ (row[known] - b[known]), cov[np.ix_(gone, gone)] - slope @ cov[np.ix_(known, gone)]


def errors_of(model, tree, x):
    """Standardised errors of the means, and of the sds, of all missing values."""
    means, sds = [], []
    ess = tree["health"]["ess"].values
    for i, row in enumerate(x):
        gone = np.isnan(row)
        mean, cov = conditional(model, row)
        means.append((tree["mean"]["x"].values[i, gone] - mean) / tree["mean_error"]["x"].values[i, gone])
        sds.append((tree["sd"]["x"].values[i, gone] / np.sqrt(np.diag(cov)) - 1) * np.sqrt(2 * ess[i]))
    return np.concatenate(means), np.concatenate(sds)


@pytest.fixture(scope="module")
def imputed(exact, exact_fit):
    x, missing = rows_with_gaps(exact)
    return x, missing, impute(exact_fit, {"x": x}, num_steps=300, num_draws=200, seed=1)


def test_means_and_sds_are_those_of_the_conditional_normal(exact, imputed):
    x, _, tree = imputed
    means, sds = errors_of(exact, tree, x)
    # some 70 comparisons each; effective draws are estimates, good to about a tenth
    assert np.abs(means).max() < 4.0
    assert np.abs(sds).max() < 4.0
    assert 0.6 < means.std() < 1.4
    assert tree.attrs["passed"] == 1
    assert tree["health"]["reliable"].values.all()


def test_draws_have_the_conditional_covariance(exact, imputed):
    x, missing, tree = imputed
    row = int(np.argmax(missing.sum(1) * (missing.sum(1) < 6)))
    gone = missing[row]
    mean, cov = conditional(exact, x[row])
    draws = tree["posterior_predictive"]["x"].values[:, :, row, gone].reshape(200, -1) - mean
    whitened = np.linalg.solve(np.linalg.cholesky(cov), draws.T)
    found = whitened @ whitened.T / 200
    number = min(tree["health"]["ess"].values[row], 200)
    error = np.sqrt((1 + np.eye(len(found))) / number)
    assert np.abs((found - np.eye(len(found))) / error).max() < 4.0


def test_observed_values_are_kept(imputed):
    x, missing, tree = imputed
    draws = tree["posterior_predictive"]["x"]
    assert draws.dims == ("chain", "draw", "datum", "x_dim_1")
    assert draws.shape == (4, 50, *x.shape)
    assert (draws.values[..., ~missing] == x[~missing]).all()
    assert np.array_equal(tree["mean"]["x"].values[~missing], x[~missing])
    assert not tree["sd"]["x"].values[~missing].any()
    assert np.array_equal(tree["missing"]["x"].values, missing)
    assert np.array_equal(tree["observed_data"]["x"].values, x, equal_nan=True)
    assert np.array_equal(tree["health"]["num_missing"].values, missing.sum(1))


def test_a_mask_says_the_same_as_nan(exact, exact_fit):
    x, missing = rows_with_gaps(exact)
    by_nan = impute(exact_fit, x, num_steps=20, num_draws=8)
    by_mask = impute(exact_fit, {"x": np.nan_to_num(x, nan=7.0)}, missing=missing, num_steps=20, num_draws=8)
    by_name = impute(exact_fit, (np.nan_to_num(x),), missing={"x": missing.astype(int)}, num_steps=20, num_draws=8)
    for other in (by_mask, by_name):
        assert np.array_equal(by_nan["mean"]["x"], other["mean"]["x"])


def test_few_steps_are_flagged(exact, exact_fit):
    x, _ = rows_with_gaps(exact)
    tree = impute(exact_fit, {"x": x}, num_steps=30, num_draws=8)
    assert tree.attrs["passed"] == 0
    checks = {check["name"]: check for check in json.loads(tree.attrs["checks"])}
    assert not checks["effective draws"]["passed"]
    assert "num_steps" in checks["effective draws"]["advice"]


def test_a_wrong_encoder_is_mended_by_the_adaptive_steps_and_flagged_without(exact):
    faulty = linear(shift=1.5, widen=0.4)
    fit = fitted(faulty.model, faulty.guide, {"x": faulty.draw(40, 2)})
    x, missing = rows_with_gaps(faulty)
    alone = impute(fit, {"x": x}, num_steps=100, num_draws=8, walk=False)
    assert alone.attrs["passed"] == 0
    means, _ = errors_of(faulty, alone, x)
    assert np.abs(means[np.isfinite(means)]).max() > 4.0  # and it is wrong
    assert np.isnan(alone["health"]["acceptance_walk"]).all()
    tree = impute(fit, {"x": x}, num_steps=300, num_draws=8)
    means, sds = errors_of(faulty, tree, x)
    assert np.abs(means).max() < 4.0
    assert np.abs(sds).max() < 4.0
    assert tree["health"]["acceptance_guide"].values[missing.any(1)].max() < 0.5


def test_proposals_of_a_guide_that_draws_unconstrained_values_are_taken():
    """A positive latent: the guide draws its logarithm, and its density at a given value is that of the logarithm."""
    loadings = torch.tensor([1.0, 0.5, -1.0], dtype=torch.float64)

    def model(x):
        with pyro.plate("datum", len(x)):
            z = pyro.sample("z", dist.Gamma(torch.full((len(x),), 3.0).to(x), 1.0))
            pyro.sample("x", dist.Normal(z[:, None] * loadings, 0.7).to_event(1), obs=x)

    def guide(x):
        """Not far from the posterior, so that most proposals are taken."""
        scale = pyro.param("scale", torch.tensor(0.3, dtype=torch.float64))
        centre = (x @ loadings / (loadings @ loadings)).clamp(min=0.5)
        with pyro.plate("datum", len(x)):
            free = pyro.sample("z_unconstrained", dist.Normal(centre.log(), scale), infer={"is_auxiliary": True})
            pyro.sample("z", dist.Delta(free.exp(), log_density=-free))

    rng = np.random.default_rng(0)
    x = rng.gamma(3.0, 1.0, 12)[:, None] * loadings.numpy() + 0.7 * rng.normal(size=(12, 3))
    rows = x.copy()
    rows[:, 1] = np.nan
    tree = impute(fitted(model, guide, {"x": x}), {"x": rows}, num_steps=200, num_draws=16, walk=False, seed=1)
    assert tree["health"]["acceptance_guide"].values.min() > 0.2
    z = np.linspace(1e-4, 30.0, 4_001)
    at = z[:, None, None] * loadings.numpy()[[0, 2]]
    log_p = 2 * np.log(z)[:, None] - z[:, None] - ((x[:, [0, 2]] - at) ** 2).sum(-1) / (2 * 0.49)
    weight = np.exp(log_p - log_p.max(0))
    wanted = 0.5 * (weight * z[:, None]).sum(0) / weight.sum(0)
    error = (tree["mean"]["x"].values[:, 1] - wanted) / tree["mean_error"]["x"].values[:, 1]
    assert np.abs(error).max() < 4.5


def test_binary_images_and_counts(images_fit, counts_fit):
    x = image_rows(4, seed=8).numpy()
    x[:, 4:] = np.nan
    tree = impute(images_fit, {"x": x}, num_steps=20, num_draws=8)
    assert set(np.unique(tree["posterior_predictive"]["x"])) == {0.0, 1.0}
    assert ((tree["mean"]["x"].values > 0) & (tree["mean"]["x"].values < 1))[:, 4:].all()
    data = counts(5)
    data["x"][:, 0] = np.nan
    tree = impute(counts_fit, data, num_steps=20, num_draws=8)
    draws = tree["posterior_predictive"]["x"].values
    assert (draws == np.round(draws)).all()
    assert tree["posterior"]["effect"].shape == (4, 4)
    assert (tree["posterior"]["effect"].values[:, 0] == tree["posterior"]["effect"].values[:, 1]).all()


def test_wrong_input_is_refused(exact, exact_fit, counts_fit):
    x, missing = rows_with_gaps(exact)
    full = exact.draw(5, 1)
    with pytest.raises(DataError, match="nothing is missing"):
        impute(exact_fit, {"x": full})
    with pytest.raises(DataError, match=r"shape \(5, 2\)"):
        impute(exact_fit, {"x": full}, missing=np.ones((5, 2), bool))
    with pytest.raises(DataError, match=r"ppl\.impute"):
        impute(exact_fit, {"x": x}, missing=~missing)
    with pytest.raises(UnknownNameError, match="'zero'"):
        impute(exact_fit, {"x": x}, missing="zero")
    with pytest.raises(UnknownNameError, match="'y'"):
        impute(exact_fit, {"x": x}, missing={"y": missing})
    with pytest.raises(DataError, match=r"shape \(24, 3\)"):
        impute(exact_fit, {"x": x[:, :3]})
    data = counts(5)
    data["group"][0] = np.nan
    with pytest.raises(DataError, match=r"'group'.*no distribution"):
        impute(counts_fit, data)
    for options in ({"num_chains": 1}, {"num_steps": 5}, {"num_draws": 0}, {"seed": -1}):
        (name,) = options
        with pytest.raises(OptionError, match=name):
            impute(exact_fit, {"x": x}, **options)


def test_likelihoods_that_tie_values_together_are_refused(exact):
    def model(x):
        with pyro.plate("datum", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.MultivariateNormal(z @ exact.W.T, exact.marginal), obs=x)

    def sizes(x):
        with pyro.plate("datum", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z @ exact.W.T + x.sum(-1, keepdim=True), 1.0).to_event(1), obs=x)

    x, _ = rows_with_gaps(exact)
    for faulty, words in ((model, "MultivariateNormal ties"), (sizes, "reads argument 'x' also elsewhere")):
        fit = fitted(faulty, exact.guide, {"x": exact.draw(10, 1)})
        with pytest.raises(ModelError, match=words):
            impute(fit, {"x": x})


def test_convergence_is_measured_as_arviz_does():
    from arviz_stats.base import array_stats

    rng = np.random.default_rng(0)
    noise = rng.normal(size=(4, 300, 3))
    chains = np.zeros_like(noise)
    for t in range(1, 300):
        chains[:, t] = np.array([0.0, 0.7, 0.95]) * chains[:, t - 1] + noise[:, t]
    for column in range(3):
        one = chains[..., column]
        rhat = array_stats.rhat(one, chain_axis=0, draw_axis=1, method="rank")
        ess = array_stats.ess(one, chain_axis=0, draw_axis=1, method="bulk")
        # ArviZ's rank R-hat is the larger of that of the values and of their distances from the median
        assert rhat_columns(chains)[column] <= rhat + 1e-12
        np.testing.assert_allclose(ess_columns(chains)[column], ess, rtol=0.05)
    stuck = np.broadcast_to(np.arange(4.0)[:, None, None], (4, 20, 1)) + 1e-6 * rng.normal(size=(4, 20, 1))
    assert rhat_columns(stuck)[0] > 2
    assert np.isnan(rhat_columns(np.ones((4, 20, 1)))[0])
