"""The closed forms of probabilistic PCA on the digits, and the models that reach them."""

import numpy as np
import pyro
import pytest
import scipy.stats
import torch
from pyro import poutine

from ppl_models import datasets
from ppl_models.autoencoders import FactorAnalysis, LinearVAE, PrincipalComponents, ProbabilisticPCA
from ppl_models.errors import DataError, OptionError
from tests.randomness import seeded

DIGITS = torch.tensor(datasets.digits()["pixels"] / 16.0)
COMPONENTS = PrincipalComponents.of(DIGITS)


def log_ratios(model, guide, x) -> torch.Tensor:
    """Log p(x, z) - log q(z | x) of each row at one draw."""
    with seeded(1), pyro.get_param_store().scope(), torch.no_grad():
        guide_trace = poutine.trace(guide).get_trace(x)
        model_trace = poutine.trace(poutine.replay(model, guide_trace)).get_trace(x)
        guide_trace.compute_log_prob()
        model_trace.compute_log_prob()
    nodes = model_trace.nodes
    return nodes["x"]["log_prob"] + nodes["z"]["log_prob"] - guide_trace.nodes["z"]["log_prob"]


@pytest.mark.parametrize(("latent_dim", "nats"), [(2, 0.0057), (5, 8.9076), (10, 17.4519)])
def test_the_digits_have_their_known_optima(latent_dim, nats):
    assert round(COMPONENTS.log_likelihood(latent_dim), 4) == nats


@pytest.mark.parametrize(("variance", "active"), [(0.2, 7), (0.1, 12), (0.05, 18), (0.02, 30), (0.01, 39)])
def test_the_digits_have_their_known_active_latents(variance, active):
    assert COMPONENTS.num_active(variance) == active
    loadings = COMPONENTS.loadings(63, variance)
    assert int((loadings.norm(dim=0) > 0).sum()) == active


@pytest.mark.parametrize("variance", [None, 0.1])
def test_an_optimum_is_scipys_normal_density_and_cannot_be_improved(variance):
    latent_dim, x = 5, DIGITS
    loadings = COMPONENTS.loadings(latent_dim, variance).numpy()
    noise = COMPONENTS.noise_variance(latent_dim) if variance is None else variance

    def mean_log_density(loadings, noise):
        covariance = loadings @ loadings.T + noise * np.eye(64)
        return scipy.stats.multivariate_normal(COMPONENTS.mean.numpy(), covariance).logpdf(x.numpy()).mean()

    best = mean_log_density(loadings, noise)
    np.testing.assert_allclose(COMPONENTS.log_likelihood(latent_dim, variance), best, rtol=1e-10)
    generator = np.random.default_rng(0)
    for _ in range(5):
        assert mean_log_density(loadings + 0.01 * generator.normal(size=loadings.shape), noise) < best
    if variance is None:
        assert max(mean_log_density(loadings, factor * noise) for factor in (0.97, 1.03)) < best


@pytest.mark.parametrize("made", [LinearVAE, ProbabilisticPCA])
@pytest.mark.parametrize("scale", ["shared", 0.1**0.5])
@pytest.mark.parametrize("latent_dim", [2, 15])
def test_at_the_optimum_both_gaps_are_zero(made, scale, latent_dim):
    """The log ratio of every row is its log evidence at any draw, and their mean is the closed form."""
    model = made(64, latent_dim, scale=scale).double()
    model.set_to(COMPONENTS)
    found = log_ratios(model, model.guide, DIGITS)
    with torch.no_grad():
        torch.testing.assert_close(found, model.log_evidence(DIGITS), rtol=1e-10, atol=1e-10)
    variance = None if scale == "shared" else scale**2
    np.testing.assert_allclose(float(found.mean()), COMPONENTS.log_likelihood(latent_dim, variance), rtol=1e-8)


def test_a_posterior_of_the_wrong_scale_opens_the_gap():
    model = LinearVAE(64, 2).double()
    model.set_to(COMPONENTS)
    with torch.no_grad():
        model.log_posterior_scale.add_(np.log(2.0))
        found = log_ratios(model, model.guide, DIGITS) - model.log_evidence(DIGITS)
    assert float(found.abs().max()) > 1.0


@pytest.mark.parametrize("made", [ProbabilisticPCA, FactorAnalysis])
def test_exact_guides_give_the_log_evidence_anywhere(made):
    """Random parameters: scipy's normal density of a row is the log ratio of model and guide, at any draw."""
    with seeded(3):
        model = made(6, 2).double()
        x = torch.randn(9, 6, dtype=torch.float64)
        if made is FactorAnalysis:
            model.likelihood.set_scale(0.5 + torch.rand(6))
    with torch.no_grad():
        covariance = (model.loadings @ model.loadings.mT + model.noise_variance.diag()).numpy()
        wanted = scipy.stats.multivariate_normal(model.mean.numpy(), covariance).logpdf(x.numpy())
        np.testing.assert_allclose(model.log_evidence(x).numpy(), wanted, rtol=1e-10)
        np.testing.assert_allclose(log_ratios(model, model.guide, x).numpy(), wanted, rtol=1e-10)
        centred = x.numpy() - model.mean.numpy()
        posterior_mean = centred @ np.linalg.solve(covariance, model.loadings.numpy())
        np.testing.assert_allclose(model.posterior(x).mean.numpy(), posterior_mean, rtol=1e-10)


def test_wrong_questions_are_refused():
    with pytest.raises(DataError, match="no maximum"):
        COMPONENTS.noise_variance(62)  # three pixels never change
    with pytest.raises(DataError, match="two rows"):
        PrincipalComponents.of(torch.zeros(1, 3))
    with pytest.raises(DataError, match="finite"):
        PrincipalComponents.of(torch.full((4, 3), torch.nan))
    with pytest.raises(OptionError, match="one noise"):
        LinearVAE(4, 2, scale="feature")
