"""The models of `models_pyro` in NumPyro."""

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist


def eight_schools(sigma, y):
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfCauchy(5.0))
    with numpyro.plate("school", len(sigma)):
        theta_trans = numpyro.sample("theta_trans", dist.Normal(0.0, 1.0))
        numpyro.sample("y", dist.Normal(mu + tau * theta_trans, sigma), obs=y)


def logistic(X, y):
    alpha = numpyro.sample("alpha", dist.Normal(0.0, 2.5))
    beta = numpyro.sample("beta", dist.Normal(0.0, 2.5).expand([X.shape[-1]]).to_event(1))
    with numpyro.plate("row", len(X)):
        numpyro.sample("y", dist.Bernoulli(logits=alpha + X @ beta), obs=y)


def hierarchical(group, x, y, num_groups):
    mean_intercept = numpyro.sample("mean_intercept", dist.Normal(0.0, 5.0))
    mean_slope = numpyro.sample("mean_slope", dist.Normal(0.0, 5.0))
    sd_intercept = numpyro.sample("sd_intercept", dist.HalfNormal(1.0))
    sd_slope = numpyro.sample("sd_slope", dist.HalfNormal(1.0))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
    with numpyro.plate("groups", num_groups):
        intercept = numpyro.sample("intercept", dist.Normal(mean_intercept, sd_intercept))
        slope = numpyro.sample("slope", dist.Normal(mean_slope, sd_slope))
    with numpyro.plate("row", len(y)):
        numpyro.sample("y", dist.Normal(intercept[group] + slope[group] * x, sigma), obs=y)


def horseshoe(X, y):
    alpha = numpyro.sample("alpha", dist.Normal(0.0, 5.0))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
    tau = numpyro.sample("tau", dist.HalfCauchy(1.0))
    with numpyro.plate("column", X.shape[-1]):
        width = numpyro.sample("width", dist.HalfCauchy(1.0))
        slope_trans = numpyro.sample("slope_trans", dist.Normal(0.0, 1.0))
    with numpyro.plate("row", len(X)):
        numpyro.sample("y", dist.Normal(alpha + X @ (slope_trans * width * tau), sigma), obs=y)


def gaussian_process(x, y):
    scale = numpyro.sample("scale", dist.HalfNormal(1.0))
    length = numpyro.sample("length", dist.LogNormal(0.0, 1.0))
    noise = numpyro.sample("noise", dist.HalfNormal(1.0))
    kernel = scale**2 * jnp.exp(-0.5 * ((x[:, None] - x) / length) ** 2)
    covariance = kernel + (noise**2 + 1e-6) * jnp.eye(len(x))
    numpyro.sample("y", dist.MultivariateNormal(jnp.zeros_like(x), scale_tril=jnp.linalg.cholesky(covariance)), obs=y)


def normal_means(y):
    with numpyro.plate("unit", len(y)):
        theta = numpyro.sample("theta", dist.Normal(0.0, 1.0))
        numpyro.sample("y", dist.Normal(theta, 1.0), obs=y)


MODELS = {
    model.__name__: model
    for model in (eight_schools, logistic, hierarchical, horseshoe, gaussian_process, normal_means)
}
