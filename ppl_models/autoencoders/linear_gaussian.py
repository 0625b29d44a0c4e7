"""Autoencoders that are linear with normal noise, whose evidence and posterior are known in closed form."""

from typing import Any

import pyro.distributions as dist
import torch
from torch import nn

from ppl_models.autoencoders.likelihoods import Gaussian
from ppl_models.autoencoders.principal_components import PrincipalComponents
from ppl_models.autoencoders.vae import VAE
from ppl_models.errors import OptionError


class LinearGaussian(VAE):
    """z_n ~ Normal(0, I), x_n ~ Normal(W z_n + μ, Ψ) with Ψ diagonal; W, μ and Ψ are parameters.

    Args:
        num_features: length of one row of the data.
        latent_dim: how many latents a row has.
        scale: square root of the diagonal of Ψ, as for `Gaussian`.
    """

    decoder: nn.Linear
    likelihood: Gaussian

    def __init__(self, num_features: int, latent_dim: int, *, scale: str | float = "shared"):
        likelihood = Gaussian(num_features, scale=scale)
        super().__init__(nn.Linear(latent_dim, num_features), latent_dim, likelihood=likelihood)

    @property
    def loadings(self) -> torch.Tensor:
        """W, shape (num_features, latent_dim)."""
        return self.decoder.weight

    @property
    def mean(self) -> torch.Tensor:
        """μ, shape (num_features,)."""
        return self.decoder.bias

    @property
    def noise_variance(self) -> torch.Tensor:
        """The diagonal of Ψ, shape (num_features,)."""
        return torch.ones_like(self.mean) * self.likelihood.scale**2

    def exact_posterior(self, x: torch.Tensor) -> Any:
        """p(z | x): normal with precision I + Wᵀ Ψ⁻¹ W, the same for all rows, and a mean linear in x.

        Args:
            x: shape (..., num_features).

        Returns:
            A multivariate normal of batch shape (...) and event shape (latent_dim,).
        """
        weighted = self.loadings / self.noise_variance.unsqueeze(-1)
        precision = torch.eye(self.latent_dim).to(weighted) + weighted.mT @ self.loadings
        projected = (x - self.mean) @ weighted
        location = torch.linalg.solve(precision, projected.unsqueeze(-1)).squeeze(-1)
        return dist.MultivariateNormal(location, precision_matrix=precision)

    def log_evidence(self, x: torch.Tensor) -> torch.Tensor:
        """Exact log p(x) in nats of each row, shape (...), x of shape (..., num_features)."""
        return dist.LowRankMultivariateNormal(self.mean, self.loadings, self.noise_variance).log_prob(x)

    @torch.no_grad()
    def set_to(self, components: PrincipalComponents) -> None:
        """Put the parameters where the likelihood of probabilistic PCA is largest, for a fixed scale at that scale."""
        fixed = self.likelihood.fixed_scale
        variance = components.noise_variance(self.latent_dim) if fixed is None else fixed**2
        self.decoder.weight.copy_(components.loadings(self.latent_dim, variance))
        self.decoder.bias.copy_(components.mean)
        if fixed is None:
            self.likelihood.set_scale(variance**0.5)


def one_scale(scale: str | float) -> str | float:
    """A scale that all features share, learnt or fixed.

    Raises:
        OptionError: it is not.
    """
    if isinstance(scale, str) and scale != "shared":
        raise OptionError(f"scale: found {scale!r}, wanted 'shared' or a positive number: all features have one noise.")
    return scale
