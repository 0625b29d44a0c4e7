"""Time series: autoregression, ARMA(1, 1), and two hidden Markov models of two states, whose states are summed out."""

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax import lax
from jax.scipy.special import logsumexp
from numpyro.distributions import constraints


def autoregression(lags, y):
    """Order five, conditional on the first values."""
    alpha = numpyro.sample("alpha", dist.Normal(0.0, 10.0))
    beta = numpyro.sample("beta", dist.Normal(0.0, 10.0).expand([lags.shape[-1]]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfCauchy(2.5))
    numpyro.sample("y", dist.Normal(alpha + lags @ beta, sigma).to_event(1), obs=y)


def moving_average(y):
    """ARMA(1, 1): the errors are a scan."""
    mu = numpyro.sample("mu", dist.Normal(0.0, 10.0))
    phi = numpyro.sample("phi", dist.Normal(0.0, 2.0))
    theta = numpyro.sample("theta", dist.Normal(0.0, 2.0))
    sigma = numpyro.sample("sigma", dist.HalfCauchy(2.5))

    def step(carry, now):
        before, error = carry
        error = now - (mu + phi * before + theta * error)
        return (now, error), error

    _, errors = lax.scan(step, (mu, jnp.zeros_like(mu)), y)
    numpyro.factor("y", dist.Normal(0.0, sigma).log_prob(errors).sum())


def hidden_markov(y):
    """Unit noise; the two means are positive and increase."""
    transition = _transition([1.0, 1.0], [1.0, 1.0])
    mu = numpyro.sample("mu", dist.ImproperUniform(constraints.positive_ordered_vector, (), (2,)))
    numpyro.factor("prior_of_mu", dist.Normal(jnp.array([3.0, 10.0]), 1.0).log_prob(mu).sum())
    numpyro.factor("y", _log_evidence(transition, dist.Normal(mu, 1.0).log_prob(y[:, None])))


def drive(u, v, alpha, tau, rho):
    """Two responses; the pairs of means increase."""
    transition = _transition(alpha[0], alpha[1])
    prior = dist.Normal(jnp.array([0.0, 3.0]), 1.0)
    phi = numpyro.sample("phi", dist.ImproperUniform(constraints.ordered_vector, (), (2,)))
    lambda_ = numpyro.sample("lambda", dist.ImproperUniform(constraints.ordered_vector, (), (2,)))
    numpyro.factor("prior", prior.log_prob(phi).sum() + prior.log_prob(lambda_).sum())
    emission = dist.Normal(phi, tau).log_prob(u[:, None]) + dist.Normal(lambda_, rho).log_prob(v[:, None])
    numpyro.factor("uv", _log_evidence(transition, emission))


def _transition(first, second) -> jnp.ndarray:
    rows = [
        numpyro.sample(name, dist.Dirichlet(jnp.asarray(concentration)))
        for name, concentration in (("theta1", first), ("theta2", second))
    ]
    return jnp.log(jnp.stack(rows))


def _log_evidence(transition, emission) -> jnp.ndarray:
    """The forward algorithm; both first states have weight one."""

    def step(forward, now):
        return logsumexp(forward[:, None] + transition, axis=0) + now, None

    forward, _ = lax.scan(step, emission[0], emission[1:])
    return logsumexp(forward)
