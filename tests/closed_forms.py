"""Models whose posterior, evidence and best Gaussian approximations are known in closed form."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import torch

X = torch.tensor([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0], [1.0, 3.0]], dtype=torch.float64)
Y = torch.tensor([0.1, 0.9, 2.2, 2.8], dtype=torch.float64)
DATA = {"x": X, "y": Y}


def regression(x, y=None):
    """y_i ~ Normal(x_i · weights, 1), weights ~ Normal(0, 1)."""
    weights = pyro.sample("weights", dist.Normal(0.0, 1.0).expand([x.shape[-1]]).to_event(1))
    mean = (x * weights).sum(-1)
    with pyro.plate("row", len(x)):
        return pyro.sample("y", dist.Normal(mean, 1.0), obs=y)


PRECISION = torch.eye(2, dtype=torch.float64) + X.mT @ X
COVARIANCE = torch.linalg.inv(PRECISION)
MEAN = COVARIANCE @ X.mT @ Y
SD = COVARIANCE.diagonal().sqrt()
_MARGINAL = torch.eye(4, dtype=torch.float64) + X @ X.mT
EVIDENCE = float(-0.5 * (Y @ torch.linalg.solve(_MARGINAL, Y) + torch.logdet(_MARGINAL) + 4 * math.log(2 * math.pi)))

MEAN_FIELD_SD = PRECISION.diagonal() ** -0.5
MEAN_FIELD_GAP = float(0.5 * (PRECISION.diagonal().log().sum() - torch.logdet(PRECISION)))
"""Log evidence less the ELBO of the best independent normals: their KL divergence from the posterior."""


def log_posterior(weights: torch.Tensor) -> torch.Tensor:
    """Log density of the posterior in nats, weights of shape (..., 2)."""
    away = weights - MEAN
    return -0.5 * (away @ PRECISION * away).sum(-1) + 0.5 * torch.logdet(PRECISION) - math.log(2 * math.pi)


def log_normal_density(value, mean, sd):
    """Log density of a normal, NumPy arrays; written out, so that it owes nothing to torch."""
    return -0.5 * ((np.asarray(value) - mean) / sd) ** 2 - np.log(sd) - 0.5 * np.log(2 * np.pi)
