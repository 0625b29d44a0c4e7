"""The models as a user of Pyro would write them; Pyro and this library run these very functions."""

import pyro
import pyro.distributions as dist
import torch


def eight_schools(sigma, y):
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("school", len(sigma)):
        theta_trans = pyro.sample("theta_trans", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(mu + tau * theta_trans, sigma), obs=y)


def logistic(X, y):
    alpha = pyro.sample("alpha", dist.Normal(0.0, 2.5))
    beta = pyro.sample("beta", dist.Normal(0.0, 2.5).expand([X.shape[-1]]).to_event(1))
    with pyro.plate("row", len(X)):
        pyro.sample("y", dist.Bernoulli(logits=alpha + X @ beta), obs=y)


def logistic_broadcast(X, y):
    """The form that Pyro's vectorised particles need: `X @ beta` knows no leading axes of beta."""
    alpha = pyro.sample("alpha", dist.Normal(0.0, 2.5))
    beta = pyro.sample("beta", dist.Normal(0.0, 2.5).expand([X.shape[-1]]).to_event(1))
    with pyro.plate("row", len(X)):
        pyro.sample("y", dist.Bernoulli(logits=alpha + (X * beta).sum(-1)), obs=y)


def hierarchical(group, x, y, num_groups):
    mean_intercept = pyro.sample("mean_intercept", dist.Normal(0.0, 5.0))
    mean_slope = pyro.sample("mean_slope", dist.Normal(0.0, 5.0))
    sd_intercept = pyro.sample("sd_intercept", dist.HalfNormal(1.0))
    sd_slope = pyro.sample("sd_slope", dist.HalfNormal(1.0))
    sigma = pyro.sample("sigma", dist.HalfNormal(1.0))
    with pyro.plate("groups", num_groups):
        intercept = pyro.sample("intercept", dist.Normal(mean_intercept, sd_intercept))
        slope = pyro.sample("slope", dist.Normal(mean_slope, sd_slope))
    with pyro.plate("row", len(y)):
        pyro.sample("y", dist.Normal(intercept[group] + slope[group] * x, sigma), obs=y)


def horseshoe(X, y):
    alpha = pyro.sample("alpha", dist.Normal(0.0, 5.0))
    sigma = pyro.sample("sigma", dist.HalfNormal(1.0))
    tau = pyro.sample("tau", dist.HalfCauchy(1.0))
    with pyro.plate("column", X.shape[-1]):
        width = pyro.sample("width", dist.HalfCauchy(1.0))
        slope_trans = pyro.sample("slope_trans", dist.Normal(0.0, 1.0))
    with pyro.plate("row", len(X)):
        pyro.sample("y", dist.Normal(alpha + X @ (slope_trans * width * tau), sigma), obs=y)


def gaussian_process(x, y):
    scale = pyro.sample("scale", dist.HalfNormal(1.0))
    length = pyro.sample("length", dist.LogNormal(0.0, 1.0))
    noise = pyro.sample("noise", dist.HalfNormal(1.0))
    kernel = scale**2 * torch.exp(-0.5 * ((x[:, None] - x) / length) ** 2)
    covariance = kernel + (noise**2 + 1e-6) * torch.eye(len(x), dtype=x.dtype)
    pyro.sample("y", dist.MultivariateNormal(torch.zeros_like(x), scale_tril=torch.linalg.cholesky(covariance)), obs=y)


def normal_means(y):
    with pyro.plate("unit", len(y)):
        theta = pyro.sample("theta", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(theta, 1.0), obs=y)


MODELS = {
    model.__name__: model
    for model in (eight_schools, logistic, logistic_broadcast, hierarchical, horseshoe, gaussian_process, normal_means)
}
