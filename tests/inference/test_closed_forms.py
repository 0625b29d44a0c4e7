"""Fits of a linear-Gaussian model, whose posterior, evidence and best approximations are known.

Near the optimum the gradient of P particles has covariance F / P, where F is the curvature of the negative ELBO (the
guide's Fisher information). The mean of T iterates of a stochastic gradient method then has covariance F^-1 / (T P),
whatever the step size (Polyak and Juditsky 1992, Acceleration of stochastic approximation by averaging): that of a
maximum-likelihood estimate from T P draws, whose expected divergence is (parameters) / (2 T P).
"""

import math

import numpy as np
import pytest
import torch
from closed_forms import COVARIANCE, DATA, EVIDENCE, MEAN, MEAN_FIELD_GAP, MEAN_FIELD_SD, PRECISION, SD, regression
from torch.distributions import MultivariateNormal, kl_divergence

import ppl_models as ppl
from ppl_models.inference.averaging import FIRST_CHECK

PARTICLES = 64
DRAWS = FIRST_CHECK // 2 * PARTICLES
"""Fewest draws that a mean of iterates comes from: a stage has its first check's steps, of which half may count."""
Z = 5.0
MEAN_ERROR = SD / math.sqrt(DRAWS)
CONDITIONAL_ERROR = MEAN_FIELD_SD / math.sqrt(DRAWS)
"""Of a mean-field location: the gradient's covariance is then not F but F diag(F)^-1 F."""
LOG_SD_ERROR = 1.0 / math.sqrt(2.0 * DRAWS)
"""The curvature of the negative ELBO in a log sd is 2."""
DIVERGENCE = 0.5 / DRAWS
"""Expected KL divergence, in nats, that the noise of one parameter makes."""


@pytest.fixture(scope="module")
def full_rank():
    return ppl.fit(regression, DATA, guide="full_rank", num_particles=PARTICLES, seed=1)


@pytest.fixture(scope="module")
def mean_field():
    return ppl.fit(regression, DATA, guide="normal", num_particles=PARTICLES, seed=1)


def distribution(fit):
    with fit.program.isolated(), torch.no_grad():
        found = fit.guide.get_posterior()
        return MultivariateNormal(found.mean.clone(), scale_tril=found.scale_tril.clone())


@pytest.mark.statistical
def test_full_rank_reaches_the_posterior(full_rank):
    assert full_rank.status == "converged"
    found = distribution(full_rank)
    assert ((found.mean - MEAN).abs() < Z * MEAN_ERROR).all()
    # five parameters; 35.9 is the 1e-6 quantile of chi-squared with as many degrees of freedom
    assert float(kl_divergence(found, MultivariateNormal(MEAN, COVARIANCE))) < 35.9 * DIVERGENCE


@pytest.mark.statistical
def test_elbo_of_full_rank_is_the_evidence_less_its_own_divergence(full_rank):
    elbo, error = full_rank.elbo(20_000, seed=2)
    divergence = float(kl_divergence(distribution(full_rank), MultivariateNormal(MEAN, COVARIANCE)))
    assert abs(elbo - (EVIDENCE - divergence)) < Z * error
    assert abs(elbo - EVIDENCE) < 0.02


@pytest.mark.statistical
def test_draws_have_the_moments_of_the_guide(full_rank):
    draws = full_rank.sample(10_000, seed=3)["posterior"]["weights"].values[0]
    found = distribution(full_rank)
    assert (np.abs(draws.mean(0) - found.mean.numpy()) < Z * SD.numpy() / 100).all()
    covariance = found.covariance_matrix.numpy()
    error = np.sqrt((covariance**2 + np.outer(covariance.diagonal(), covariance.diagonal())) / 10_000)
    assert (np.abs(np.cov(draws.T) - covariance) < Z * error).all()


@pytest.mark.statistical
def test_normal_reaches_its_own_optimum(mean_field):
    """Judged against the best independent normals: sd 1 / sqrt(precision), not the posterior's."""
    location, sd = (mean_field.parameters[f"AutoNormal.{name}.weights"] for name in ("locs", "scales"))
    # the gradient of a log sd has the noise of the other latent too
    correlated = math.sqrt(1 + float(PRECISION[0, 1] ** 2 / (PRECISION[0, 0] * PRECISION[1, 1])))
    assert ((location - MEAN).abs() < Z * CONDITIONAL_ERROR).all()
    assert ((sd.log() - MEAN_FIELD_SD.log()).abs() < Z * math.sqrt(correlated) * LOG_SD_ERROR).all()
    assert (SD.log() - sd.log() > 10 * LOG_SD_ERROR).all()


@pytest.mark.statistical
def test_elbo_of_normal_misses_its_closed_form_gap(mean_field):
    elbo, error = mean_field.elbo(50_000, seed=2)
    # four parameters; 33.4 is the 1e-6 quantile of chi-squared with as many degrees of freedom
    assert -Z * error < EVIDENCE - MEAN_FIELD_GAP - elbo < Z * error + 33.4 * DIVERGENCE
    assert 20 * error < MEAN_FIELD_GAP


def test_laplace_is_exact_up_to_its_mode():
    fit = ppl.fit(regression, DATA, guide="laplace", seed=1)
    found = distribution(fit)
    torch.testing.assert_close(found.covariance_matrix, COVARIANCE, rtol=1e-9, atol=0)
    torch.testing.assert_close(found.mean, MEAN, rtol=0, atol=1e-3 * float(SD.min()))
    assert fit.elbo(1_000)[0] == pytest.approx(EVIDENCE, abs=1e-4)


def test_log_density_of_draws_is_exact(full_rank):
    """log_p - log_q of every draw, recomputed from the closed form and the guide's own parameters."""
    tree = full_rank.sample(50, seed=4)
    draws = torch.as_tensor(tree["posterior"]["weights"].values[0])
    log_q = distribution(full_rank).log_prob(draws).numpy()
    log_p = EVIDENCE + MultivariateNormal(MEAN, COVARIANCE).log_prob(draws).numpy()
    np.testing.assert_allclose(tree["sample_stats"]["log_q"].values[0], log_q, rtol=1e-10)
    np.testing.assert_allclose(tree["sample_stats"]["log_p"].values[0], log_p, rtol=1e-10)


def test_same_seed_same_losses_and_other_seed_others():
    options = {"guide": "normal", "max_steps": 20}
    first, second, other = (ppl.fit(regression, DATA, seed=seed, **options).losses for seed in (5, 5, 6))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)
