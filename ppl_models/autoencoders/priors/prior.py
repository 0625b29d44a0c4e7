"""What every prior of the latents of an autoencoder is: a module that gives a distribution."""

from typing import Any

from torch import nn

from ppl_models.options import check_count


class Prior(nn.Module):
    """p(z) of one row, with parameters that are learnt with the decoder's, or none.

    Args:
        latent_dim: how many latents a row has.
    """

    def __init__(self, latent_dim: int):
        super().__init__()
        self.latent_dim = check_count("latent_dim", latent_dim)

    def forward(self) -> Any:
        """A Pyro distribution of batch shape () and event shape (latent_dim,)."""
        raise NotImplementedError
