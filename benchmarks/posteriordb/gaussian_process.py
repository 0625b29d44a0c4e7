"""A simulated curve: Gaussian process regression with the curve summed out."""

from typing import Any

import pyro
import pyro.distributions as dist
import torch

from benchmarks.posteriordb.columns import column
from benchmarks.posteriordb.problem import POSTERIORDB, Entry, Raw

CITE = (
    "Rasmussen and Williams (2006), Gaussian Processes for Machine Learning, MIT Press, chapter 2 (model); "
    f"{POSTERIORDB} (simulated data)."
)


def model(x: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
    """Gaussian process: y ~ MultivariateNormal(0, K + sigma I), K_ij = alpha² exp(-(x_i - x_j)² / (2 rho²)).

    rho ~ Gamma(25, 4), alpha ~ HalfNormal(2), sigma ~ HalfNormal(1). Here sigma is the variance of the noise, not its
    standard deviation.

    Args:
        x: Where the curve is measured, shape (point,).
        y: What was measured, shape (point,); None to draw it.

    Returns:
        The response, measured or drawn.

    Rasmussen and Williams (2006), equation 2.21.
    """
    rho = pyro.sample("rho", dist.Gamma(25.0, 4.0))[..., None, None]
    alpha = pyro.sample("alpha", dist.HalfNormal(2.0))[..., None, None]
    sigma = pyro.sample("sigma", dist.HalfNormal(1.0))[..., None, None]
    x = x.to(rho)
    covariance = alpha**2 * torch.exp(-0.5 * ((x[:, None] - x) / rho) ** 2) + sigma * torch.eye(len(x)).to(rho)
    root = torch.linalg.cholesky(covariance)
    return pyro.sample("y", dist.MultivariateNormal(torch.zeros_like(x), scale_tril=root), obs=y)


def _prepare(raw: Raw) -> dict[str, Any]:
    return {"x": column(raw, "x"), "y": column(raw, "y")}


ENTRIES = {"gp_pois_regr-gp_regr": Entry(model, _prepare, CITE)}
