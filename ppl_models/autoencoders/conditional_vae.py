"""The variational autoencoder given labels or covariates."""

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import nn

from guides.amortization.realnvp import beside
from ppl_models.autoencoders.autoencoder import Autoencoder
from ppl_models.errors import DataError
from ppl_models.options import check_count


class ConditionalVAE(Autoencoder):
    """z_n ~ p(z), x_n ~ likelihood(decoder(z_n, c_n)): latents for what labels or covariates c leave open.

    Args:
        decoder: maps latents and covariates, side by side in one vector (..., latent_dim + num_covariates), to the
            likelihood's outputs, (..., num_outputs), as many as for `VAE`.
        latent_dim: how many latents a row has.
        num_classes: where c are labels: how many there are; each becomes a vector of zeros and a one, so that
            num_covariates is num_classes. None where c are covariates.
        prior_given: maps covariates (..., num_covariates) to p(z | c), a Pyro distribution of event shape
            (latent_dim,); None where the latents do not depend on c.
        posterior: q(z | x, c) for `guide`: maps rows and covariates, side by side (..., num_features + num_covariates),
            to a Pyro distribution of event shape (latent_dim,).
        parts: likelihood, num_features, likelihood_options and prior, as for `VAE`.

    Sohn, Lee and Yan (2015), Learning structured output representation using deep conditional generative models.
    """

    labels: torch.Tensor

    def __init__(
        self,
        decoder: nn.Module,
        latent_dim: int,
        *,
        num_classes: int | None = None,
        prior_given: nn.Module | None = None,
        posterior: nn.Module | None = None,
        **parts: Any,
    ):
        super().__init__(decoder, latent_dim, posterior=posterior, **parts)
        self.num_classes = None if num_classes is None else check_count("num_classes", num_classes)
        # a buffer follows the module to other dtypes and devices
        self.register_buffer("labels", torch.arange(float(self.num_classes or 0)), persistent=False)
        self.prior_given = prior_given

    def forward(self, c: torch.Tensor, x: torch.Tensor | None = None) -> torch.Tensor:
        """The model.

        Args:
            c: labels 0, 1, ..., shape (row,), or covariates, shape (row, num_covariates).
            x: data, shape (row, num_features), in the units of the likelihood; None to draw a row for each of c.

        Returns:
            The data, observed or drawn, shape (row, num_features).
        """
        with self.rows(len(c)):
            z = pyro.sample("z", self.prior() if self.prior_given is None else self.prior_given(self.covariates(c)))
            return pyro.sample("x", self.decode(z, c), obs=x)

    def guide(self, c: torch.Tensor, x: torch.Tensor | None = None) -> None:
        """The guide q(z | x, c) of every row; arguments as for the model.

        Raises:
            MissingDataError: x is None.
            ModelError: the autoencoder was made without a posterior.
        """
        x = self._observed(x)
        with self.rows(len(c)):
            pyro.sample("z", self.posterior(x, c))

    def decode(self, z: torch.Tensor, c: torch.Tensor) -> Any:
        """p(x | z, c): batch shape (..., row), event shape (num_features,), for z of shape (..., row, latent_dim)."""
        return self.likelihood(self.decoder(beside(z, self.covariates(c).to(z))))

    def posterior(self, x: torch.Tensor, c: torch.Tensor) -> Any:
        """q(z | x, c): batch shape (..., row), event shape (latent_dim,), for x of shape (..., row, num_features)."""
        return self._posterior(beside(x, self.covariates(c).to(x)))

    def covariates(self, c: torch.Tensor) -> torch.Tensor:
        """C as vectors, shape (row, num_covariates).

        Raises:
            DataError: labels are not those of `num_classes`, while Pyro validates.
        """
        if self.num_classes is None:
            return c.unsqueeze(-1) if c.dim() == 1 else c
        found = c.unsqueeze(-1) == self.labels
        if dist.is_validation_enabled() and not bool(found.any(-1).all()):
            raise DataError(
                f"c: found labels outside 0, ..., {self.num_classes - 1}, wanted whole numbers below "
                f"num_classes={self.num_classes}. Number the classes from 0, or give more of them."
            )
        return found.to(self.labels)
