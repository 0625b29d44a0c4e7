"""Families on targets whose answer is known in closed form."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO, TraceEnum_ELBO
from pyro.optim import ClippedAdam

import guides

STEPS, PARTICLES, STEP_SIZE = 1500, 16, 0.05
X = torch.tensor([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0], [1.0, 3.0]], dtype=torch.float64)
Y = torch.tensor([0.1, 0.9, 2.2, 2.8], dtype=torch.float64)


def regression(x, y):
    weights = pyro.sample("weights", dist.Normal(0.0, 1.0).expand([x.shape[-1]]).to_event(1))
    mean = (x * weights).sum(-1)
    with pyro.plate("row", len(x)):
        pyro.sample("y", dist.Normal(mean, 1.0), obs=y)


def closed_form():
    """Mean, covariance and log evidence of the regression."""
    precision = torch.eye(2, dtype=torch.float64) + X.mT @ X
    covariance = torch.linalg.inv(precision)
    evidence = dist.MultivariateNormal(torch.zeros(4).double(), torch.eye(4).double() + X @ X.mT).log_prob(Y)
    return covariance @ X.mT @ Y, covariance, evidence


def fit(name, model, *data, elbo=None, **options):
    torch.set_default_dtype(torch.float64)
    guide = guides.make(name, model, **options)
    guide(*data)
    elbo = elbo or Trace_ELBO(num_particles=PARTICLES, vectorize_particles=True, max_plate_nesting=1)
    optimiser = ClippedAdam({"lr": STEP_SIZE, "lrd": 0.001 ** (1.0 / STEPS)})
    svi = SVI(model, guide, optimiser, elbo)
    for _ in range(STEPS):
        svi.step(*data)
    finalize = guides.FAMILIES[name].finalize
    return finalize(guide, *data) if finalize else guide


def draws(guide, *data, num=4000):
    with torch.no_grad(), pyro.plate("draws", num, dim=-2):
        return guide(*data)["weights"].reshape(num, -1)


@pytest.mark.statistical
@pytest.mark.parametrize("name", ["full_rank", "low_rank", "structured", "laplace", "iaf"])
def test_families_that_hold_the_posterior_reach_it(name):
    mean, covariance, evidence = closed_form()
    guide = fit(name, regression, X, Y)
    sample = draws(guide, X, Y)
    num = len(sample)
    z = 4.4  # five comparisons for each of five families, family-wise error below 1e-3
    standard_error = covariance.diagonal().sqrt() / math.sqrt(num)
    # the fit's own Monte Carlo error, of as many particles as the last tenth of the steps held, adds to the draws'
    allowance = math.sqrt(1.0 + num / (0.1 * STEPS * PARTICLES))
    assert ((sample.mean(0) - mean).abs() < z * allowance * standard_error).all()
    found = torch.cov(sample.mT)
    error = ((covariance**2 + torch.outer(covariance.diagonal(), covariance.diagonal())) / num).sqrt()
    assert ((found - covariance).abs() < z * allowance * error).all()
    bound = -torch.tensor(
        [
            Trace_ELBO(num_particles=500, vectorize_particles=True, max_plate_nesting=1).loss(regression, guide, X, Y)
            for _ in range(8)
        ]
    )
    # at the exact posterior the ELBO has no variance: a gap of 0.01 nats is a standard deviation off by seven per cent
    assert (evidence - bound.mean()).abs() < 0.01 + z * bound.std() / math.sqrt(8)


@pytest.mark.statistical
def test_normal_reaches_its_own_optimum():
    mean, covariance, _ = closed_form()
    guide = fit("normal", regression, X, Y)
    optimum = torch.linalg.inv(covariance).diagonal() ** -0.5
    # d ELBO / d log s has noise of about sqrt(2) per particle and curvature 2 at the optimum
    error = 1.0 / math.sqrt(2 * 0.1 * STEPS * PARTICLES)
    assert ((guide.scales.weights.log() - optimum.log()).abs() < 4.0 * error).all()
    # at independent normals the gradient of a location has noise 1 / s per particle, curvature 1 / s², and correlations
    # spread it by at most the condition number of the correlation matrix
    correlation = covariance / torch.outer(covariance.diagonal(), covariance.diagonal()).sqrt()
    spread = torch.linalg.cond(correlation).item()
    assert ((guide.locs.weights - mean).abs() < 4.0 * spread * optimum / math.sqrt(0.1 * STEPS * PARTICLES)).all()


def test_delta_is_the_mode():
    mean, _, _ = closed_form()
    guide = fit("delta", regression, X, Y, elbo=Trace_ELBO())
    torch.testing.assert_close(guide.median(X, Y)["weights"], mean, rtol=1e-5, atol=1e-6)


def pair(y):
    rate = pyro.sample("rate", dist.Gamma(3.0, 2.0))
    with pyro.plate("row", len(y)):
        pyro.sample("y", dist.Exponential(rate), obs=y)


def test_laplace_has_the_closed_forms_mode_and_curvature():
    # posterior Gamma(3 + n, 2 + sum y): in u = log rate, a u - b exp(u) with mode log(a / b) and curvature a
    y = torch.tensor([0.5, 1.5, 0.7], dtype=torch.float64)
    guide = fit("laplace", pair, y, elbo=Trace_ELBO())
    shape, rate = 3.0 + len(y), 2.0 + y.sum()
    torch.testing.assert_close(guide.loc, (shape / rate).log().reshape(1), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(guide.scale, torch.tensor([shape**-0.5]), rtol=1e-5, atol=1e-6)


def coin_mixture(y):
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    with pyro.plate("row", len(y)):
        flip = pyro.sample("flip", dist.Bernoulli(0.3), infer={"enumerate": "parallel"})
        pyro.sample("y", dist.Normal(mean + 2.0 * flip, 1.0), obs=y)


def test_laplace_sums_enumerated_sites_out():
    y = torch.tensor([0.2, 2.5, -0.4, 1.8], dtype=torch.float64)
    guide = fit("laplace", coin_mixture, y, elbo=TraceEnum_ELBO(max_plate_nesting=1))

    def negative_log_density(mean):
        low = dist.Normal(mean, 1.0).log_prob(y) + math.log(0.7)
        high = dist.Normal(mean + 2.0, 1.0).log_prob(y) + math.log(0.3)
        return 0.5 * mean**2 - torch.logaddexp(low, high).sum()

    curvature = torch.autograd.functional.hessian(negative_log_density, guide.loc[0])
    torch.testing.assert_close(guide.scale[0], curvature**-0.5, rtol=1e-8, atol=0.0)
