"""`ppl.loo` against leave-one-out predictive densities in closed form: a normal regression with known noise."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from closed_forms import COVARIANCE, DATA, MEAN, regression

import ppl_models as ppl
from ppl_models.errors import DataError, ModelError, OptionError

Z = 4.0
RNG = np.random.default_rng(1)
X = torch.from_numpy(np.stack([np.ones(24), np.linspace(-1.0, 1.0, 24)], axis=1))
Y = X @ torch.tensor([0.5, -0.7], dtype=torch.float64) + torch.from_numpy(RNG.normal(size=24))
PRECISION = torch.eye(2, dtype=torch.float64) + X.mT @ X


def guide_of(width=1.0):
    def near(x, y=None):
        covariance = torch.linalg.inv(PRECISION)
        pyro.sample("weights", dist.MultivariateNormal(covariance @ X.mT @ y, width**2 * covariance))

    return near


def exact():
    """Log predictive density of each datum given the others."""
    found = []
    for i in range(len(Y)):
        keep = torch.arange(len(Y)) != i
        covariance = torch.linalg.inv(torch.eye(2, dtype=torch.float64) + X[keep].mT @ X[keep])
        mean = X[i] @ covariance @ X[keep].mT @ Y[keep]
        found.append(dist.Normal(mean, (1.0 + X[i] @ covariance @ X[i]).sqrt()).log_prob(Y[i]))
    return torch.stack(found).numpy()


def fit_of(width=1.0, **options):
    return ppl.fit(regression, {"x": X, "y": Y}, guide=guide_of(width), max_steps=2, seed=1, **options)


@pytest.mark.statistical
@pytest.mark.parametrize("width", [1.0, 1.4, 0.85])
def test_fit_gives_the_exact_figures(width):
    found = ppl.loo(fit_of(width), seed=2)
    assert abs(found.elpd - exact().sum()) < Z * found.mcse
    assert found.mcse < 0.2
    assert found.source == "guide"
    assert [check.name for check in found.checks] == ["LOO k-hat", "LOO-PIT"]
    assert all(check.passed for check in found.checks)
    assert found.se == pytest.approx(math.sqrt(24) * exact().std(ddof=1), abs=5 * found.mcse)
    assert list(found.table.index[:2]) == ["y[0]", "y[1]"]
    covariance = torch.linalg.inv(PRECISION)
    within = dist.Normal(X @ covariance @ X.mT @ Y, (1.0 + (X @ covariance * X).sum(-1)).sqrt()).log_prob(Y)
    assert abs(found.p_loo - (within.sum().item() - exact().sum())) < 5 * found.mcse


def test_draws_in_a_tree_are_taken_as_they_are():
    tree = fit_of().sample(4_000, seed=2, include=("log_likelihood", "posterior_predictive"))
    found = ppl.loo(tree)
    assert abs(found.elpd - exact().sum()) < Z * found.mcse
    assert found.source == "draws"


@pytest.mark.slow
@pytest.mark.statistical
def test_draws_by_mcmc_give_the_exact_figures_too():
    tree = ppl.sample(
        regression,
        {"x": X, "y": Y},
        chains=4,
        warmup=300,
        draws=500,
        seed=1,
        include=("log_likelihood", "posterior_predictive"),
    )
    found = ppl.loo(tree)
    assert abs(found.elpd - exact().sum()) < Z * found.mcse
    assert found.source == "draws"
    assert all(check.passed for check in found.checks)
    without = ppl.loo(tree.filter(lambda node: node.name != "posterior_predictive"))
    assert without.checks[1].passed is None
    assert "posterior_predictive" in without.checks[1].detail


def test_narrow_guide_fails_and_is_blamed():
    found = ppl.loo(fit_of(0.3))
    assert found.checks[0].passed is False
    assert "a richer guide" in found.checks[0].advice


def test_wrong_noise_fails_loo_pit():
    found = ppl.loo(ppl.fit(regression, {"x": X, "y": 4.0 * Y}, guide=guide_of(), seed=1, max_steps=2))
    pit = found.checks[1]
    assert pit.passed is False
    assert "tails" in pit.detail


def test_it_prints_what_it_found():
    found = ppl.loo(fit_of(), num_draws=1_000)
    for text in (str(found), found._repr_html_()):
        assert "elpd" in text
        assert "LOO k-hat" in text
        assert str(found.table["elpd"].idxmin()) in text
    assert len(found.worst(3)) == 3


def test_same_seed_same_figures_and_no_pit_where_none_is_wanted():
    first, again = (ppl.loo(fit_of(), num_draws=1_000, seed=3) for _ in range(2))
    assert first.table.equals(again.table)
    quick = ppl.loo(fit_of(), num_draws=1_000, seed=3, pit=False)
    np.testing.assert_array_equal(quick.table["elpd"], first.table["elpd"])
    assert quick.table["pit"].isna().all()
    assert len(quick.checks) == 1


def two_sites(x, keep, y=None, count=None):
    weights = pyro.sample("weights", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    with pyro.plate("row", len(x)), pyro.poutine.mask(mask=keep):
        pyro.sample("y", dist.Normal(x @ weights, 1.0), obs=y)
    pyro.sample("both", dist.Normal(weights, 1.0).to_event(1), obs=torch.zeros(2, dtype=torch.float64))
    with pyro.plate("group", 3):
        pyro.sample("count", dist.Poisson(weights[0].exp()), obs=count)


def near_truth(x, keep, y=None, count=None):
    pyro.sample("weights", dist.MultivariateNormal(MEAN, COVARIANCE))


def test_several_sites_vectors_and_masks():
    data = {**DATA, "keep": torch.tensor([True, True, False, True]), "count": torch.tensor([1.0, 0.0, 3.0])}
    found = ppl.loo(ppl.fit(two_sites, data, guide=near_truth, max_steps=2, seed=1), num_draws=1_000)
    assert list(found.table.index) == ["y[0]", "y[1]", "y[3]", "both", "count[0]", "count[1]", "count[2]"]
    assert found.table["pit"].isna().to_numpy().tolist() == [False, False, False, True, False, False, False]
    assert found.checks[1].passed is None
    assert "6 observations" in found.checks[1].detail


def enumerated(y):
    share = pyro.sample("share", dist.Beta(1.0, 1.0))
    with pyro.plate("row", len(y)):
        kind = pyro.sample("kind", dist.Bernoulli(share), infer={"enumerate": "parallel"})
        pyro.sample("y", dist.Normal(kind, 1.0), obs=y)


def test_what_cannot_be_left_out_says_what_to_do():
    with pytest.raises(ModelError, match="mixture distribution"):
        ppl.loo(ppl.fit(enumerated, {"y": Y}, guide="normal", max_steps=2, seed=1))
    with pytest.raises(OptionError, match="point"):
        ppl.loo(ppl.fit(regression, DATA, guide="delta", max_steps=2, seed=1))
    tree = fit_of().sample(500)
    with pytest.raises(DataError, match="log_likelihood"):
        ppl.loo(tree)
    for wrong in ({"num_draws": 999}, {"seed": -1}):
        with pytest.raises(OptionError, match=next(iter(wrong))):
            ppl.loo(fit_of(), **wrong)
    with pytest.raises(OptionError, match="fit"):
        ppl.loo("a fit")


def own_latents(y):
    with pyro.plate("row", len(y)):
        level = pyro.sample("level", dist.Normal(0.0, 5.0))
        pyro.sample("y", dist.Normal(level, 0.3), obs=y)


def exact_latents(y):
    with pyro.plate("row", len(y)):
        precision = 1.0 / 5.0**2 + 1.0 / 0.3**2
        pyro.sample("level", dist.Normal(y / 0.3**2 / precision, precision**-0.5))


def test_observations_with_latents_of_their_own_cannot_be_left_out_by_weights():
    check = ppl.loo(ppl.fit(own_latents, {"y": Y}, guide=exact_latents, seed=1, max_steps=2)).checks[0]
    assert check.passed is False
    assert "their own latents" in check.advice
