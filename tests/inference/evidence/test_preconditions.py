"""Models that have no evidence are refused by every method, before an arbitrary constant comes out."""

import pyro
import pyro.distributions as dist
import pytest
import torch

import ppl_models as ppl
from ppl_models.errors import ModelError
from ppl_models.inference.evidence.preconditions import check_observed
from ppl_models.program import build_program
from ppl_models.workflow.bounds import elbo_terms, importance_bound
from ppl_models.workflow.evidence import log_evidence

X, Y = torch.tensor([0.0, 1.0, 2.0]), torch.tensor([0.1, 0.9, 2.2])


def regression(x, y=None):
    slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
    with pyro.plate("row", len(x)):
        pyro.sample("y", dist.Normal(slope * x, 1.0), obs=y)


def improper(x, y):
    slope = pyro.sample("slope", dist.ImproperUniform(dist.constraints.real, (), ()))
    with pyro.plate("row", len(x)):
        pyro.sample("y", dist.Normal(slope * x, 1.0), obs=y)


def masked(x, y):
    slope = pyro.sample("slope", dist.Normal(0.0, 1.0).mask(False))
    with pyro.plate("row", len(x)):
        pyro.sample("y", dist.Normal(slope * x, 1.0), obs=y)


def handled(x, y):
    with pyro.poutine.mask(mask=torch.tensor(False)):
        slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
    with pyro.plate("row", len(x)):
        pyro.sample("y", dist.Normal(slope * x, 1.0), obs=y)


def fit_of(model, data, guide="normal"):
    return ppl.fit(model, data, guide=guide, max_steps=2, seed=1, backend="eager")


USES = {
    "importance": lambda fit: log_evidence(fit, method="importance", num_draws=100),
    "elbo_terms": lambda fit: elbo_terms(fit, num_draws=100),
    "importance_bound": lambda fit: importance_bound(fit, num_draws=500),
}


@pytest.mark.parametrize("model", [improper, masked, handled])
def test_improper_priors_have_no_evidence(model):
    fit = fit_of(model, {"x": X, "y": Y})
    for use in USES.values():
        with pytest.raises(ModelError, match=r"'slope': its prior is .*integrates to one"):
            use(fit)


def test_a_bridge_refuses_an_improper_prior():
    draws = torch.randn(4, 200, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    data = {"x": X, "y": Y}
    tree = ppl.to_datatree({"slope": draws}, model=improper, data=data, by_chain=True)
    with pytest.raises(ModelError, match="'slope': its prior is improper"):
        log_evidence(improper, data, draws=tree, method="bridge")


def test_a_mask_that_guide_and_model_share_takes_nothing_away():
    """Of two latents of a row the second is padding: the evidence is that of the first alone."""
    kept = torch.tensor([True, False])

    def model(y):
        with pyro.plate("row", 2), pyro.poutine.mask(mask=kept):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("y", dist.Normal(z, 1.0), obs=y)

    def guide(y):
        with pyro.plate("row", 2), pyro.poutine.mask(mask=kept):
            pyro.sample("z", dist.Normal(0.5 * y, 0.5**0.5))

    found = log_evidence(fit_of(model, {"y": Y[:2]}, guide), method="importance", num_draws=100)
    truth = torch.distributions.Normal(0.0, 2.0**0.5).log_prob(Y[0].double())
    assert found.total == pytest.approx(float(truth), abs=1e-6)
    with pytest.raises(ModelError, match="masked"):
        log_evidence(fit_of(model, {"y": Y[:2]}), method="importance", num_draws=100)


@pytest.mark.parametrize("method", ["auto", "ais", "thermodynamic"])
def test_forgotten_data_are_named(method):
    with pytest.raises(ModelError, match=r"no site of the model is observed.* Give the argument 'y', which is None"):
        log_evidence(regression, {"x": X}, method=method)


@pytest.mark.parametrize("use", USES)
def test_forgotten_data_of_a_fit_are_named(use):
    with pytest.raises(ModelError, match="Give the argument 'y', which is None"):
        USES[use](fit_of(regression, {"x": X, "y": None}))


def test_what_is_observed_is_counted():
    def by_factor(y):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.factor("all", -((y - z) ** 2).sum())

    assert check_observed(build_program(regression, {"x": X, "y": Y}), "here") == 3
    assert check_observed(build_program(by_factor, {"y": Y}), "here") is None
    found = log_evidence(regression, {"x": X, "y": Y}, method="ais", num_temperatures=10)
    assert found.config["num_observed"] == 3


def test_a_guide_that_draws_discrete_latents_is_sent_to_importance():
    def model(y):
        kind = pyro.sample("kind", dist.Bernoulli(0.5))
        pyro.sample("y", dist.Normal(kind, 1.0), obs=y)

    def guide(y):
        pyro.sample("kind", dist.Bernoulli(0.6))

    y = torch.tensor(0.3, dtype=torch.float64)
    fit = fit_of(model, {"y": y}, guide)
    with pytest.raises(ModelError, match=r"'kind': a discrete latent.*method='importance'"):
        log_evidence(fit)
    found = log_evidence(fit, method="importance", num_draws=4_000)
    truth = torch.distributions.Normal(torch.tensor([0.0, 1.0]), 1.0).log_prob(y).double().exp().mean().log()
    assert abs(found.total - float(truth)) < 4.0 * found.total_error
