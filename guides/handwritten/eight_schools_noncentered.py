"""Guide of the non-centred eight schools: the same two exact conditionals as for the centred one, after the shift.

theta_trans_j = (theta_j - mu) / tau has prior Normal(0, 1) and y_j ~ Normal(mu + tau theta_trans_j, sigma_j), so that
p(theta_trans | mu, tau, y) is normal with precision 1 + tau² / sigma_j²; p(mu | tau, y) is as in the centred model
(Gelman et al. 2013, Bayesian Data Analysis, equation 5.20, here with a proper prior on mu). p(tau | y) is finite and
positive at zero and falls off as a power of tau: a Burr distribution has both ends.
"""

import pyro
import pyro.distributions as dist
import torch

from guides.errors import MissingDataError
from guides.handwritten.parts import burr

PRIOR_SCALE_OF_MU = 5.0


def guide(sigma: torch.Tensor, y: torch.Tensor | None = None) -> None:
    """q(tau) p(mu | tau, y) p(theta_trans | mu, tau, y), with tau Burr.

    Keeps the dependence of the shifted effects on tau (the larger tau, the more the data say about them) and on mu.

    Args:
        sigma: Standard errors of the effects, points, shape (school,).
        y: Measured effects, points, shape (school,).

    Raises:
        MissingDataError: If y is None.
    """
    if y is None:
        raise MissingDataError("eight_schools_noncentered", "y")
    # Given one large tau, each school's mean contributes 1 / tau to the density, and the half-Cauchy prior 1 / tau².
    tau = pyro.sample("tau", burr("tau", scale=15.0, shape=1.2, decay=sigma.shape[-1] + 1.0))
    sigma, y = sigma.to(tau), y.to(tau)

    marginal_precision = 1.0 / (sigma**2 + tau.unsqueeze(-1) ** 2)
    mu_precision = marginal_precision.sum(-1) + PRIOR_SCALE_OF_MU**-2
    mu_mean = (marginal_precision * y).sum(-1) / mu_precision
    mu = pyro.sample("mu", dist.Normal(mu_mean, mu_precision**-0.5))

    total = sigma**2 + tau**2
    with pyro.plate("school", sigma.shape[-1]):
        pyro.sample("theta_trans", dist.Normal(tau * (y - mu) / total, sigma / total.sqrt()))
