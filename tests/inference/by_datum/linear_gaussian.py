"""A linear-Gaussian latent variable model whose posteriors, evidence and gaps are known, with amortised guides."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from scipy.stats import multivariate_normal

import ppl_models as ppl

WEIGHTS = torch.tensor([[1.0, 0.6], [0.9, 1.5], [-0.8, 0.9], [0.5, -0.4]], dtype=torch.float64)
OFFSET = torch.tensor([0.3, -0.1, 0.0, 0.5], dtype=torch.float64)
NOISE_SD = 0.7


def model(x=None, num_rows=3):
    """z ~ N(0, I), x ~ N(W z + b, 0.49 I)."""
    rows = num_rows if x is None else len(x)
    with pyro.plate("datum", rows):
        z = pyro.sample("z", dist.Normal(torch.zeros(rows, 2, dtype=torch.float64), 1.0).to_event(1))
        return pyro.sample("x", dist.Normal(z @ WEIGHTS.T + OFFSET, NOISE_SD).to_event(1), obs=x)


@dataclass(frozen=True)
class Exact:
    """What is known of rows x, shape (row, 4)."""

    x: torch.Tensor

    @property
    def precision(self) -> torch.Tensor:
        """Of each row's posterior, shape (2, 2)."""
        return torch.eye(2, dtype=torch.float64) + WEIGHTS.T @ WEIGHTS / NOISE_SD**2

    @property
    def covariance(self) -> torch.Tensor:
        """Of each row's posterior, shape (2, 2)."""
        return torch.linalg.inv(self.precision)

    @property
    def mean(self) -> torch.Tensor:
        """Shape (row, 2)."""
        return (self.x - OFFSET) @ WEIGHTS @ self.covariance / NOISE_SD**2

    @property
    def log_evidence(self) -> np.ndarray:
        """Nats, shape (row,)."""
        covariance = WEIGHTS @ WEIGHTS.T + NOISE_SD**2 * torch.eye(4, dtype=torch.float64)
        return multivariate_normal(OFFSET.numpy(), covariance.numpy()).logpdf(self.x.numpy())

    @property
    def best_diagonal_gap(self) -> float:
        """KL(q || p) of the best normal without correlations, nats: the variances are 1 / precision[i, i]."""
        return float(0.5 * (self.precision.diagonal().log().sum() - torch.logdet(self.precision)))

    def divergence(self, mean: torch.Tensor, covariance: torch.Tensor) -> np.ndarray:
        """KL(N(mean, covariance) || posterior) in nats, shape (row,)."""
        away = mean - self.mean
        quadratic = torch.einsum("ni,ij,nj->n", away, self.precision, away)
        rest = (self.precision @ covariance).trace() - 2.0 - torch.logdet(self.precision @ covariance)
        return (0.5 * (quadratic + rest)).numpy()


def rows(count: int, seed: int = 0) -> torch.Tensor:
    """Data drawn from the model, shape (row, 4)."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(count, 2, dtype=torch.float64, generator=generator)
    noise = torch.randn(count, 4, dtype=torch.float64, generator=generator)
    return z @ WEIGHTS.T + OFFSET + NOISE_SD * noise


def fit(x: torch.Tensor, *, family: str = "full_rank", shift: Any = 0.0, width: Any = 1.0) -> Any:
    """A fit whose guide is the exact posterior, or the best diagonal one, moved and scaled as asked.

    Args:
        x: the data.
        family: "full_rank" or "diagonal".
        shift: of every mean; or of each row's, shape (row,).
        width: factor of every scale; or of each row's, shape (row,).
    """

    count = len(x)

    def guide(x=None, num_rows=3):
        exact = Exact(x)
        learnt = pyro.param("width", torch.tensor(1.0, dtype=torch.float64))
        scale, away = (torch.as_tensor(one, dtype=x.dtype).expand(count)[: len(x), None] for one in (width, shift))
        scale = learnt * scale
        with pyro.plate("datum", len(x)):
            if family == "diagonal":
                sd = scale * exact.precision.diagonal() ** -0.5
                pyro.sample("z", dist.Normal(exact.mean + away, sd).to_event(1))
            else:
                factor = scale[..., None] * torch.linalg.cholesky(exact.covariance)
                pyro.sample("z", dist.MultivariateNormal(exact.mean + away, scale_tril=factor))

    return ppl.fit(model, {"x": x}, guide=guide, max_steps=1, step_size=1e-12, backend="eager", seed=0)
