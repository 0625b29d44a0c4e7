"""Probabilistic principal component analysis."""

from typing import Any

import torch

from ppl_models.autoencoders.linear_gaussian import LinearGaussian, one_scale


class ProbabilisticPCA(LinearGaussian):
    """z_n ~ Normal(0, I), x_n ~ Normal(W z_n + μ, σ² I); the guide is exact and has no parameters of its own.

    So the ELBO is the log evidence, without noise, and a fit is the maximum-likelihood estimate of W, μ and σ.

    Args:
        num_features: length of one row of the data.
        latent_dim: how many latents a row has.
        scale: "shared" to learn σ, or σ itself.

    Tipping and Bishop (1999), Probabilistic principal component analysis.
    """

    def __init__(self, num_features: int, latent_dim: int, *, scale: str | float = "shared"):
        super().__init__(num_features, latent_dim, scale=one_scale(scale))

    def posterior(self, x: torch.Tensor) -> Any:
        """p(z | x), a multivariate normal of batch shape (...) and event shape (latent_dim,)."""
        return self.exact_posterior(x)
