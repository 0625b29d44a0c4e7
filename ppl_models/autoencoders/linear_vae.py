"""The linear variational autoencoder."""

from typing import Any

import pyro.distributions as dist
import torch
from torch import nn

from ppl_models.autoencoders.linear_gaussian import LinearGaussian, one_scale
from ppl_models.autoencoders.principal_components import PrincipalComponents


class LinearVAE(LinearGaussian):
    """z_n ~ Normal(0, I), x_n ~ Normal(W z_n + μ, σ² I), and q(z | x) = Normal(V (x - μ), D) with one diagonal D.

    The family holds the posterior wherever the columns of W are orthogonal, as some are at every maximum of the
    likelihood; so the largest ELBO is the largest log evidence of probabilistic PCA, and known in closed form.

    Args:
        num_features: length of one row of the data.
        latent_dim: how many latents a row has.
        scale: "shared" to learn σ, or σ itself.

    Lucas et al. (2019), Don't blame the ELBO! A linear VAE perspective on posterior collapse.
    """

    def __init__(self, num_features: int, latent_dim: int, *, scale: str | float = "shared"):
        super().__init__(num_features, latent_dim, scale=one_scale(scale))
        self.projection = nn.Linear(num_features, latent_dim, bias=False)
        self.log_posterior_scale = nn.Parameter(torch.zeros(latent_dim))

    def posterior(self, x: torch.Tensor) -> Any:
        """q(z | x): independent normals of batch shape (...) and event shape (latent_dim,)."""
        return dist.Normal(self.projection(x - self.mean), self.log_posterior_scale.exp()).to_event(1)

    @torch.no_grad()
    def set_to(self, components: PrincipalComponents) -> None:
        """Put model and guide where the ELBO is largest, for a fixed scale at that scale."""
        super().set_to(components)
        variance = self.noise_variance[0]
        precision = (self.loadings**2).sum(0) + variance
        self.projection.weight.copy_(self.loadings.mT / precision.unsqueeze(-1))
        self.log_posterior_scale.copy_((variance / precision).log() / 2)
