"""The prior without parameters."""

from typing import Any

import pyro.distributions as dist
import torch

from ppl_models.autoencoders.priors.prior import Prior


class StandardNormal(Prior):
    """z ~ Normal(0, I). Kingma and Welling (2014), Auto-encoding variational Bayes.

    Args:
        latent_dim: how many latents a row has.
    """

    zeros: torch.Tensor

    def __init__(self, latent_dim: int):
        super().__init__(latent_dim)
        # a buffer follows the module to other dtypes and devices
        self.register_buffer("zeros", torch.zeros(self.latent_dim), persistent=False)

    def forward(self) -> Any:
        """The distribution, event shape (latent_dim,)."""
        return dist.Normal(self.zeros, torch.ones_like(self.zeros)).to_event(1)
