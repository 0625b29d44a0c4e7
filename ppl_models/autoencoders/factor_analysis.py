"""Factor analysis."""

from typing import Any

import torch

from ppl_models.autoencoders.linear_gaussian import LinearGaussian


class FactorAnalysis(LinearGaussian):
    """z_n ~ Normal(0, I), x_n ~ Normal(W z_n + μ, Ψ), a variance for each feature; the guide is exact.

    So the ELBO is the log evidence, without noise, and a fit is the maximum-likelihood estimate of W, μ and Ψ.

    Args:
        num_features: length of one row of the data.
        latent_dim: how many latents a row has.

    Rubin and Thayer (1982), EM algorithms for ML factor analysis.
    """

    def __init__(self, num_features: int, latent_dim: int):
        super().__init__(num_features, latent_dim, scale="feature")

    def posterior(self, x: torch.Tensor) -> Any:
        """p(z | x), a multivariate normal of batch shape (...) and event shape (latent_dim,)."""
        return self.exact_posterior(x)
