"""A variational autoencoder with two layers of latents."""

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import nn

from ppl_models.autoencoders.autoencoder import Autoencoder, count_rows


class LadderVAE(Autoencoder):
    """z2_n ~ prior, z1_n ~ p(z1 | z2_n), x_n ~ likelihood(decoder(z1_n)), with a guide that works its way back down.

    The guide reads the data bottom-up into features, draws z2 given them, and then merges two normals about z1: what
    the features say and what the model's own p(z1 | z2) says, each weighted by its precision. Model and guide share
    that part, so the guide is a method: `ppl.fit(ladder, {"x": x}, guide=ladder.guide)`.

    Args:
        decoder: maps z1 (..., latent_dims[0]) to the likelihood's outputs, (..., num_outputs), as many as for `VAE`.
        latent_dims: how many latents a row has nearest the data (z1), and above (z2).
        top_down: p(z1 | z2): maps z2 (..., latent_dims[1]) to a Pyro distribution with independent normal coordinates,
            event shape (latent_dims[0],), as `nn.Sequential(network, NormalHead(width, latent_dims[0]))` with
            `guides.amortization.NormalHead`.
        bottom_up: maps rows (..., num_features) to features (..., width).
        message: what the features say about z1: maps them to a distribution as `top_down` does.
        posterior: q(z2 | x): maps the features to a Pyro distribution of event shape (latent_dims[1],), as
            `nn.Sequential(network, NormalHead(width, latent_dims[1]))`.
        parts: likelihood, num_features, likelihood_options and prior (of z2), as for `VAE`.

    Sønderby et al. (2016), Ladder variational autoencoders.
    """

    def __init__(
        self,
        decoder: nn.Module,
        latent_dims: tuple[int, int],
        *,
        top_down: nn.Module,
        bottom_up: nn.Module,
        message: nn.Module,
        posterior: nn.Module,
        **parts: Any,
    ):
        super().__init__(decoder, latent_dims[1], posterior=posterior, **parts)
        self.latent_dims = (int(latent_dims[0]), int(latent_dims[1]))
        self.top_down, self.bottom_up, self.message = top_down, bottom_up, message

    def forward(self, x: torch.Tensor | None = None, num_rows: int | None = None) -> torch.Tensor:
        """The model.

        Args:
            x: data, shape (row, num_features), in the units of the likelihood; None to draw them.
            num_rows: how many rows to draw where x is None.

        Returns:
            The data, observed or drawn, shape (row, num_features).
        """
        with self.rows(count_rows(x, num_rows)):
            z2 = pyro.sample("z2", self.prior())
            z1 = pyro.sample("z1", self.top_down(z2))
            return pyro.sample("x", self.decode(z1), obs=x)

    def guide(self, x: torch.Tensor | None = None, num_rows: int | None = None) -> None:
        """The guide q(z2 | x) q(z1 | x, z2) of every row; arguments as for the model.

        Raises:
            MissingDataError: x is None.
        """
        x = self._observed(x)
        with self.rows(len(x)):
            features = self.bottom_up(x)
            z2 = pyro.sample("z2", self._posterior(features))
            pyro.sample("z1", merged(self.message(features), self.top_down(z2)))

    def decode(self, z1: torch.Tensor) -> Any:
        """p(x | z1): batch shape (...), event shape (num_features,), for z1 of shape (..., latent_dims[0])."""
        return self.likelihood(self.decoder(z1))


def merged(first: Any, second: Any) -> Any:
    """The normal proportional to the product of two densities of independent normals, event shape (dim,)."""
    weights = 1 / first.variance, 1 / second.variance
    precision = weights[0] + weights[1]
    location = (weights[0] * first.mean + weights[1] * second.mean) / precision
    return dist.Normal(location, precision.rsqrt()).to_event(1)
