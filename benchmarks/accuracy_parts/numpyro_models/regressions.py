"""Linear regressions: flat priors, those of the test scores, of the simulated one and of the diamonds."""

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from numpyro.distributions import constraints


def flat(x, y):
    """All priors are flat, that of sigma on the positive side."""
    beta = _flat_coefficients(x)
    sigma = numpyro.sample("sigma", dist.ImproperUniform(constraints.positive, (), ()))
    numpyro.sample("y", dist.Normal(x @ beta, sigma).to_event(1), obs=y)


def half_cauchy(x, y):
    """Coefficients are flat, sigma ~ HalfCauchy(2.5)."""
    beta = _flat_coefficients(x)
    sigma = numpyro.sample("sigma", dist.HalfCauchy(2.5))
    numpyro.sample("y", dist.Normal(x @ beta, sigma).to_event(1), obs=y)


def ridge(x, y):
    """No intercept; coefficients ~ Normal(0, 10), sigma ~ HalfNormal(10)."""
    beta = numpyro.sample("beta", dist.Normal(0.0, 10.0).expand([x.shape[-1]]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(10.0))
    numpyro.sample("y", dist.Normal(x @ beta, sigma).to_event(1), obs=y)


def diamonds(x, y):
    """Covariates are centred; the priors are those of brms."""
    b = numpyro.sample("b", dist.Normal(0.0, 1.0).expand([x.shape[-1]]).to_event(1))
    intercept = numpyro.sample("Intercept", dist.StudentT(3.0, 8.0, 10.0))
    sigma = numpyro.sample("sigma", dist.FoldedDistribution(dist.StudentT(3.0, 0.0, 10.0)))
    numpyro.sample("y", dist.Normal(intercept + x @ b, sigma).to_event(1), obs=y)


def _flat_coefficients(x) -> jnp.ndarray:
    return numpyro.sample("beta", dist.ImproperUniform(constraints.real_vector, (), (x.shape[-1],)))
