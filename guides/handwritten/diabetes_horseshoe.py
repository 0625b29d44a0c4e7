"""Guide of the horseshoe regression: exact coefficients given the scales, a dense normal over the log scales.

Given the noise and the prior scale s_j of each coefficient, y ~ Normal(X (s ∘ z), noise) with z ~ Normal(0, I) is a
Gaussian linear model: p(z | scales, y) is normal with precision A = I + (s sᵀ) ∘ XᵀX / noise² and mean
A⁻¹ (s ∘ Xᵀy) / noise² (Gelman et al. 2013, Bayesian Data Analysis, section 14.8).
"""

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints

from guides.errors import MissingDataError
from guides.handwritten.parts import dense_normal, place


def guide(x: torch.Tensor, y: torch.Tensor | None = None, tau0: float = 0.02) -> None:
    """q(log noise, log tau, log c², log lambda) p(raw coefficients | scales, y).

    Keeps the dependence of each coefficient on its scales (a small local scale shuts its coefficient off: one funnel
    per covariate), of the coefficients on each other (the covariates are collinear), and the trade between the global
    and the local scales, which enter the likelihood as products.

    Args:
        x: Standardised covariates, unitless, shape (patient, covariate).
        y: Standardised response, unitless, shape (patient,).
        tau0: The model's guess of the global scale, unitless; the guide starts there.

    Raises:
        MissingDataError: If y is None.
    """
    if y is None:
        raise MissingDataError("diabetes_horseshoe", "y")
    size = x.shape[-1]
    start = torch.tensor([0.7, tau0, 1.0] + [1.0] * size).log().tolist()
    logs = dense_normal("log_scales", start)
    noise = place("noise", logs[..., 0], constraints.positive)
    tau = place("tau", logs[..., 1], constraints.positive)
    slab = place("slab_variance", logs[..., 2], constraints.positive)
    local = place("lambda", logs[..., 3:], constraints.independent(constraints.positive, 1))

    x, y = x.to(local), y.to(local)
    tau, slab, noise = tau.unsqueeze(-1), slab.unsqueeze(-1), noise.unsqueeze(-1)
    scales = tau * local * (slab / (slab + tau**2 * local**2)).sqrt()
    outer = scales.unsqueeze(-1) * scales.unsqueeze(-2)
    precision = torch.eye(size).to(x) + outer * (x.mT @ x) / noise.unsqueeze(-1) ** 2
    factor = torch.linalg.cholesky(precision)
    target = (scales * (y @ x) / noise**2).unsqueeze(-1)
    mean = torch.cholesky_solve(target, factor).squeeze(-1)
    pyro.sample("raw_coefficients", dist.MultivariateNormal(mean, precision_matrix=precision))
