"""Priors: densities that integrate to one, and draws that follow them."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from torch import nn
from torch.distributions import biject_to

from guides.amortization.normal import NormalHead
from ppl_models.autoencoders import FlowPrior, StandardNormal, VampPrior
from ppl_models.errors import OptionError
from tests.randomness import seeded

LATENT_DIM, NUM_FEATURES, NUM_PSEUDO = 2, 5, 4


def posterior(latent_dim=LATENT_DIM) -> nn.Module:
    return nn.Sequential(nn.Linear(NUM_FEATURES, 8), nn.Tanh(), NormalHead(8, latent_dim, init_scale=0.5))


def vamp(latent_dim=LATENT_DIM) -> VampPrior:
    return VampPrior(latent_dim, posterior(latent_dim), torch.randn(NUM_PSEUDO, NUM_FEATURES))


def flow() -> FlowPrior:
    """With weights away from the identity, near which it starts."""
    prior = FlowPrior(LATENT_DIM, hidden_dims=(8,))
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.add_(0.06 * torch.randn_like(parameter))
    return prior


PRIORS = {"standard_normal": lambda: StandardNormal(LATENT_DIM), "vamp": vamp, "flow": flow}


def made(name: str, dtype=torch.float64):
    with seeded(5):
        return PRIORS[name]().to(dtype)


@pytest.mark.parametrize("name", PRIORS)
def test_a_density_integrates_to_one(name):
    """By the trapezium rule on a fine grid, exact for smooth densities that vanish at its edges."""
    axis = torch.linspace(-18, 18, 721, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        density = made(name)().log_prob(grid).exp()
    assert abs(float(density.sum()) * float(axis[1] - axis[0]) ** 2 - 1) < 1e-6


@pytest.mark.parametrize("name", PRIORS)
def test_draws_follow_the_density(name):
    """E[(p2/p)(z)] = 1 for another density p2 with lighter tails: of 20,000 draws, within z standard errors."""
    law = made(name)()
    other = scipy.stats.multivariate_normal([0.2, -0.1], 0.3 * np.eye(2))
    with seeded(6), torch.no_grad():
        draws = law.sample((20_000,))
        ratio = np.exp(other.logpdf(draws.numpy()) - law.log_prob(draws).numpy())
    error = ratio.std() / math.sqrt(len(ratio))
    assert abs(ratio.mean() - 1) <= scipy.stats.norm.isf(0.5e-4 / len(PRIORS)) * error < 0.2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", PRIORS)
def test_every_prior_keeps_the_protocol(name, dtype):
    """Shapes, expanded batches, vmap, gradients of every parameter, and a support that can be transformed."""
    prior = made(name, dtype)
    law = prior()
    assert (law.batch_shape, law.event_shape) == ((), (LATENT_DIM,))
    biject_to(law.support)
    with seeded(7):
        batch = law.expand([3])
        z = batch.sample((6,))
        assert batch.sample().shape == (3, LATENT_DIM)
    assert (z.shape, z.dtype) == ((6, 3, LATENT_DIM), dtype)
    found = batch.log_prob(z)
    assert (found.shape, found.dtype) == ((6, 3), dtype)
    torch.testing.assert_close(found, law.log_prob(z))
    torch.testing.assert_close(torch.func.vmap(batch.log_prob)(z), found)
    assert batch.log_prob(z[0, 0]).shape == (3,)
    if list(prior.parameters()):
        found.sum().backward()
        assert all(bool(p.grad.isfinite().all()) and bool((p.grad != 0).any()) for p in prior.parameters())


def test_the_standard_normal_is_scipys():
    z = torch.tensor([[0.0, 0.0], [40.0, -3.0]], dtype=torch.float64)
    wanted = scipy.stats.norm.logpdf(z.numpy()).sum(-1)
    np.testing.assert_allclose(made("standard_normal")().log_prob(z).numpy(), wanted, rtol=1e-10)


def test_a_vamp_prior_at_the_data_is_the_aggregated_posterior():
    with seeded(8):
        rows = torch.randn(30, NUM_FEATURES, dtype=torch.float64)
        encoder = posterior().double()
        z = torch.randn(7, LATENT_DIM, dtype=torch.float64)
    prior = VampPrior(LATENT_DIM, encoder, rows)
    with torch.no_grad():
        each = encoder(rows)
        densities = scipy.stats.norm.pdf(z[:, None].numpy(), each.mean.numpy(), each.stddev.numpy()).prod(-1)
        np.testing.assert_allclose(prior().log_prob(z).numpy(), np.log(densities.mean(-1)), rtol=1e-10)
        np.testing.assert_allclose(prior().mean.numpy(), each.mean.mean(0).numpy(), rtol=1e-10)
        second = (each.variance + each.mean**2).mean(0) - each.mean.mean(0) ** 2
        np.testing.assert_allclose(prior().expand([3]).variance.numpy(), second.expand(3, -1).numpy(), rtol=1e-10)


def test_a_vamp_prior_of_one_latent_integrates_to_one():
    with seeded(9):
        prior = vamp(1).double()
    axis = torch.linspace(-14, 14, 4_001, dtype=torch.float64)
    with torch.no_grad():
        assert abs(float(prior().log_prob(axis[:, None]).exp().sum() * (axis[1] - axis[0])) - 1) < 1e-9


def test_a_flow_prior_starts_as_about_a_standard_normal_and_carries_noise_back_and_forth():
    with seeded(10):
        fresh = FlowPrior(3).double()
        z = torch.randn(50, 3, dtype=torch.float64)
    with torch.no_grad():
        gap = fresh().log_prob(z) - StandardNormal(3).double()().log_prob(z)
    assert float(gap.abs().max()) < 0.6
    bent = made("flow")
    noise = bent.noise().expand([50])
    with seeded(11):
        drawn = bent().rsample((50,))
    with seeded(11):
        wanted = noise.rsample()
    found, total = drawn, 0.0
    for layer in bent.layers:
        found, log_determinant = layer.call_and_ladj(found, found[..., :0])
        total = total + log_determinant
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)
    jacobians = torch.stack([torch.autograd.functional.jacobian(lambda v: _through(bent, v), v) for v in drawn[:5]])
    torch.testing.assert_close(total[:5], torch.linalg.slogdet(jacobians)[1], rtol=1e-10, atol=1e-10)


def _through(prior, z):
    for layer in prior.layers:
        z, _ = layer.call_and_ladj(z, z[..., :0])
    return z


def test_wrong_priors_are_refused():
    with pytest.raises(OptionError, match="at least 2"):
        FlowPrior(1)
    with pytest.raises(OptionError, match="pseudo_inputs"):
        VampPrior(2, posterior(), torch.zeros(3, NUM_FEATURES, dtype=torch.long))
    with pytest.raises(OptionError, match="latent_dim"):
        StandardNormal(0)
