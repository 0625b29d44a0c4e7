"""Guide of the centred eight schools: the funnel, kept whole by two exact conditionals.

With y_j ~ Normal(theta_j, sigma_j), theta_j ~ Normal(mu, tau) and mu ~ Normal(0, 5), Gaussian algebra gives
p(theta | mu, tau, y) and p(mu | tau, y) in closed form (Gelman et al. 2013, Bayesian Data Analysis, equations 5.17 and
5.20, here with a proper prior on mu). Only tau needs an approximation. Its posterior density is finite and positive
at zero and falls off as a power of tau, the half-Cauchy prior's doing. A Burr distribution has both ends; a log-normal
has neither, and a Weibull's light right tail, though only 0.001 nats away in Kullback-Leibler divergence, makes the
importance ratios heavy-tailed. The Burr with the right power is 0.004 nats away (by quadrature).
"""

import pyro
import pyro.distributions as dist
import torch

from guides.errors import MissingDataError
from guides.handwritten.parts import burr

PRIOR_SCALE_OF_MU = 5.0


def guide(sigma: torch.Tensor, y: torch.Tensor | None = None) -> None:
    """q(tau) p(mu | tau, y) p(theta | mu, tau, y), with tau Burr.

    Keeps the dependence of theta on tau (as tau goes to zero the effects close in on mu: the funnel) and of mu on tau.

    Args:
        sigma: Standard errors of the effects, points, shape (school,).
        y: Measured effects, points, shape (school,).

    Raises:
        MissingDataError: If y is None.
    """
    if y is None:
        raise MissingDataError("eight_schools_centered", "y")
    # Given one large tau, each school's mean contributes 1 / tau to the density, and the half-Cauchy prior 1 / tau².
    tau = pyro.sample("tau", burr("tau", scale=15.0, shape=1.2, decay=sigma.shape[-1] + 1.0))
    sigma, y = sigma.to(tau), y.to(tau)

    marginal_precision = 1.0 / (sigma**2 + tau.unsqueeze(-1) ** 2)
    mu_precision = marginal_precision.sum(-1) + PRIOR_SCALE_OF_MU**-2
    mu_mean = (marginal_precision * y).sum(-1) / mu_precision
    mu = pyro.sample("mu", dist.Normal(mu_mean, mu_precision**-0.5))

    weight = sigma**2 / (sigma**2 + tau**2)  # of mu against y; written so that tau near zero stays exact
    with pyro.plate("school", sigma.shape[-1]):
        pyro.sample("theta", dist.Normal(weight * mu + (1.0 - weight) * y, tau * weight.sqrt()))
