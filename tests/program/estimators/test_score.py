"""The score function estimator on discrete guides, against exact sums over their values."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from closed_forms import log_posterior
from pyro.distributions.testing.fakes import NonreparameterizedNormal
from scipy.special import roots_hermite

from ppl_models.program.estimators import Score, Total
from ppl_models.program.estimators.drawing import draw
from ppl_models.program.estimators.signals import signal_of
from program.estimators.noise import Z, errors_from, gradients_of_function

COUNT = 20_000
Y = torch.tensor(0.8, dtype=torch.float64)


def elbo_of_flags(flat, y=Y):
    """Exact, for `flags`: y ~ Normal(flag, 1), flag ~ Bernoulli(0.3)."""
    chance = flat[0].sigmoid()
    total = 0.0
    for value, weight in ((0.0, 1.0 - chance), (1.0, chance)):
        log_p = dist.Bernoulli(torch.tensor(0.3).double()).log_prob(torch.tensor(value).double())
        log_p = log_p + dist.Normal(torch.tensor(value).double(), 1.0).log_prob(y)
        total = total + weight * (log_p - weight.log())
    return total


def flags(y):
    flag = pyro.sample("flag", dist.Bernoulli(torch.tensor(0.3, dtype=torch.float64)))
    pyro.sample("y", dist.Normal(flag, 1.0), obs=y)


def flag_guide(flat):
    return lambda y: pyro.sample("flag", dist.Bernoulli(logits=flat[0]))


def counts(y):
    count = pyro.sample("count", dist.Poisson(torch.tensor(2.0, dtype=torch.float64)))
    pyro.sample("y", dist.Normal(count, 1.0), obs=y)


def count_guide(flat):
    return lambda y: pyro.sample("count", dist.Poisson(flat[0].exp()))


def elbo_of_counts(flat, y=Y):
    values = torch.arange(60, dtype=torch.float64)
    log_q = dist.Poisson(flat[0].exp()).log_prob(values)
    log_p = dist.Poisson(torch.tensor(2.0).double()).log_prob(values) + dist.Normal(values, 1.0).log_prob(y)
    return (log_q.exp() * (log_p - log_q)).sum()


def mixed(y):
    z = pyro.sample("z", dist.Normal(torch.zeros((), dtype=torch.float64), 1.0))
    flag = pyro.sample("flag", dist.Bernoulli(logits=z))
    pyro.sample("y", dist.Normal(z + 2.0 * flag, 1.0), obs=y)


def mixed_guide(flat):
    """A reparameterised draw is the parent of one that is not."""

    def guide(y):
        z = pyro.sample("z", dist.Normal(flat[0], flat[1].exp()))
        pyro.sample("flag", dist.Bernoulli(logits=flat[2] + flat[3] * z))

    return guide


def elbo_of_mixed(flat, y=Y):
    nodes, weights = (torch.as_tensor(found) for found in roots_hermite(80))
    z = flat[0] + flat[1].exp() * 2.0**0.5 * nodes
    prior = dist.Normal(torch.zeros(()).double(), 1.0).log_prob(z) - dist.Normal(flat[0], flat[1].exp()).log_prob(z)
    logits, total = flat[2] + flat[3] * z, 0.0
    for value in (torch.tensor(0.0).double(), torch.tensor(1.0).double()):
        log_q = dist.Bernoulli(logits=logits).log_prob(value)
        log_p = dist.Bernoulli(logits=z).log_prob(value) + dist.Normal(z + 2.0 * value, 1.0).log_prob(y)
        total = total + log_q.exp() * (prior + log_p - log_q)
    return (weights * total).sum() / np.sqrt(np.pi)


CASES = [
    (flags, flag_guide, elbo_of_flags, [-0.4]),
    (counts, count_guide, elbo_of_counts, [0.3]),
    (mixed, mixed_guide, elbo_of_mixed, [0.4, -0.5, 0.2, 0.7]),
]


@pytest.mark.statistical
@pytest.mark.parametrize("particles", [2, 5])
@pytest.mark.parametrize(("model", "guide_at", "exact", "at"), CASES, ids=["bernoulli", "poisson", "mixed"])
def test_mean_gradient_is_the_exact_sum(model, guide_at, exact, at, particles):
    flat = torch.tensor(at, dtype=torch.float64)
    losses, gradients = gradients_of_function(model, (Y,), guide_at, flat, Score(), particles=particles, count=COUNT)
    slope, bound = torch.func.grad_and_value(exact)(flat)
    assert errors_from(-losses, float(bound)) < Z
    assert (errors_from(-gradients, slope.numpy()) < Z).all()


@pytest.mark.statistical
def test_autograd_alone_is_noticed():
    flat = torch.tensor(CASES[2][3], dtype=torch.float64)
    _, gradients = gradients_of_function(mixed, (Y,), mixed_guide, flat, Total(), particles=5, count=COUNT)
    assert errors_from(-gradients, torch.func.grad(elbo_of_mixed)(flat).numpy()).max() > Z


@pytest.mark.statistical
def test_the_others_mean_takes_noise_away():
    def guide_at(flat):
        return lambda: pyro.sample("weights", NonreparameterizedNormal(flat, 0.4).to_event(1))

    def model():
        weights = pyro.sample("weights", dist.Normal(torch.zeros(2, dtype=torch.float64), 1.0).to_event(1).mask(False))
        pyro.factor("posterior", log_posterior(weights))

    flat = torch.tensor([0.2, 0.8], dtype=torch.float64)
    _, gradients = gradients_of_function(model, (), guide_at, flat, Score(), particles=8, count=COUNT)
    plain = torch.func.grad(lambda flat: log_posterior(flat))(flat)  # a normal's mean log density has this gradient
    assert (errors_from(-gradients, plain.numpy()) < Z).all()

    class WithItsOwnScore(Score):
        def particle(self, target, guide):
            signal = signal_of(target, draw(target, guide))
            return {"log_ratio": signal.value, "log_score": signal.score, "scale": signal.scale}

    quiet = gradients.var(axis=0).sum()
    for other in (Score("none"), WithItsOwnScore()):
        _, noisy = gradients_of_function(model, (), guide_at, flat, other, particles=8, count=COUNT)
        assert (errors_from(-noisy, plain.numpy()) < Z).all()
        assert quiet < 0.95 * noisy.var(axis=0).sum()
