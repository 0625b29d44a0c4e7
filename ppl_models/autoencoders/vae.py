"""The variational autoencoder."""

from typing import Any

import pyro
import torch

from ppl_models.autoencoders.autoencoder import Autoencoder, count_rows


class VAE(Autoencoder):
    """z_n ~ prior, x_n ~ likelihood(decoder(z_n)): latents z for each row of x.

    The module is the Pyro model: `ppl.fit(vae, {"x": x}, guide=...)`. Any amortised guide serves it,
    `guides.amortized(vae)` among them; one that shares parts with the model is its method `guide`, for which
    `posterior` is given.

    Args:
        decoder: maps latents (..., latent_dim) to (..., num_outputs): one output for each feature; two with
            Gaussian(scale="output"); num_levels with Categorical. `likelihood.num_outputs` is the number.
        latent_dim: how many latents a row has.
        likelihood: a name in `LIKELIHOODS`, or an instance.
        num_features: length of one row of the data; a likelihood given by its name needs it.
        likelihood_options: of the likelihood of that name, as {"num_levels": 17} of "categorical".
        prior: p(z), a `Prior` of `latent_dim`; a standard normal by default.
        posterior: q(z | x) for `guide`: maps rows (..., num_features) to a Pyro distribution of event shape
            (latent_dim,), as `nn.Sequential(encoder, NormalHead(width, latent_dim))` with
            `guides.amortization.NormalHead`.

    Raises:
        OptionError, UnknownNameError: the parts do not go together.

    Kingma and Welling (2014), Auto-encoding variational Bayes.
    """

    def forward(self, x: torch.Tensor | None = None, num_rows: int | None = None) -> torch.Tensor:
        """The model.

        Args:
            x: data, shape (row, num_features), in the units of the likelihood; None to draw them.
            num_rows: how many rows to draw where x is None.

        Returns:
            The data, observed or drawn, shape (row, num_features).
        """
        with self.rows(count_rows(x, num_rows)):
            z = pyro.sample("z", self.prior())
            return pyro.sample("x", self.decode(z), obs=x)

    def guide(self, x: torch.Tensor | None = None, num_rows: int | None = None) -> None:
        """The guide q(z | x) of every row; arguments as for the model.

        Raises:
            MissingDataError: x is None.
            ModelError: the autoencoder was made without a posterior.
        """
        x = self._observed(x)
        with self.rows(len(x)):
            pyro.sample("z", self.posterior(x))

    def decode(self, z: torch.Tensor) -> Any:
        """p(x | z): batch shape (...), event shape (num_features,), for z of shape (..., latent_dim)."""
        return self.likelihood(self.decoder(z))

    def posterior(self, x: torch.Tensor) -> Any:
        """q(z | x): batch shape (...), event shape (latent_dim,), for x of shape (..., num_features).

        Raises:
            ModelError: the autoencoder was made without a posterior.
        """
        return self._posterior(x)
