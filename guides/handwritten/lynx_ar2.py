"""Guide of the autoregression: exact intercept and coefficients given the noise, a log-normal noise.

Conditional on the first years an autoregression is a linear regression on the lagged values. Given the noise, with
Z = (1, lags) and prior precision P, the posterior of intercept and coefficients is normal with precision
ZᵀZ / noise² + P and mean its inverse times Zᵀy / noise² (Gelman et al. 2013, Bayesian Data Analysis, section 14.8). The
noise itself is fixed by a hundred residuals, so that its logarithm is nearly normal.
"""

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints

from guides.errors import MissingDataError
from guides.handwritten.parts import place

PRIOR_SCALE_OF_INTERCEPT = 2.0
PRIOR_SCALE_OF_COEFFICIENTS = 1.0


def guide(lags: torch.Tensor, y: torch.Tensor | None = None) -> None:
    """q(noise) p(intercept, coefficients | noise, y), with log noise normal.

    Keeps the dependence of the intercept on the sum of the coefficients (the series has a mean far from zero, which
    only their combination fixes) and of the coefficients on each other (neighbouring years resemble each other).

    Args:
        lags: The series one and two years before, log10 of animals, shape (year, lag).
        y: The series, log10 of animals, shape (year,).

    Raises:
        MissingDataError: If y is None.
    """
    if y is None:
        raise MissingDataError("lynx_ar2", "y")
    location = pyro.param("log_noise_location", lambda: torch.tensor(-1.0))
    scale = pyro.param("log_noise_scale", lambda: torch.tensor(0.1), constraint=constraints.softplus_positive)
    noise = pyro.sample("noise", dist.LogNormal(location, scale))

    lags, y = lags.to(noise), y.to(noise)
    design = torch.cat([torch.ones_like(lags[:, :1]), lags], -1)
    prior_scales = [PRIOR_SCALE_OF_INTERCEPT] + [PRIOR_SCALE_OF_COEFFICIENTS] * lags.shape[-1]
    prior_precision = torch.tensor(prior_scales).to(noise).pow(-2).diag()
    variance = noise.unsqueeze(-1) ** 2
    precision = design.mT @ design / variance.unsqueeze(-1) + prior_precision
    target = (y @ design / variance).unsqueeze(-1)
    mean = torch.cholesky_solve(target, torch.linalg.cholesky(precision)).squeeze(-1)
    exact = dist.MultivariateNormal(mean, precision_matrix=precision)
    weights = pyro.sample("weights", exact, infer={"is_auxiliary": True})
    place("intercept", weights[..., 0])
    place("coefficients", weights[..., 1:], constraints.real_vector)
