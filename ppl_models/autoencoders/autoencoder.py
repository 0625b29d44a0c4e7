"""What all autoencoders have: a decoder, a likelihood, a prior of the latents, and the names of their parts in Pyro."""

from collections.abc import Mapping
from typing import Any

import pyro
import torch
from torch import nn

from guides.errors import MissingDataError
from ppl_models.autoencoders.likelihoods import Likelihood, as_likelihood
from ppl_models.autoencoders.priors import Prior, StandardNormal
from ppl_models.errors import ModelError, OptionError

NAME = "autoencoder"
"""Under it, model and guide register their module with Pyro; what they share stands in the param store once."""
PLATE = "datum"
"""The plate over the rows of the data."""


class Autoencoder(nn.Module):
    """Parts and checks that the models share; `VAE` documents the arguments.

    Args:
        decoder: maps latents to the likelihood's outputs, (..., num_outputs).
        latent_dim: how many latents the prior has.
        likelihood: a name in `LIKELIHOODS`, or an instance.
        num_features: length of one row of the data.
        likelihood_options: of the likelihood of that name.
        prior: p(z) of the latents without parents; a standard normal by default.
        posterior: q(z | x) for `guide`.
    """

    def __init__(
        self,
        decoder: nn.Module,
        latent_dim: int,
        *,
        likelihood: str | Likelihood = "bernoulli",
        num_features: int | None = None,
        likelihood_options: Mapping[str, Any] | None = None,
        prior: Prior | None = None,
        posterior: nn.Module | None = None,
    ):
        super().__init__()
        self.decoder = decoder
        self.likelihood = as_likelihood(likelihood, num_features, **(likelihood_options or {}))
        self.prior = StandardNormal(latent_dim) if prior is None else prior
        self.encoder = posterior
        if self.prior.latent_dim != latent_dim:
            raise OptionError(f"prior: of {self.prior.latent_dim} latents, but latent_dim is {latent_dim}.")

    @property
    def latent_dim(self) -> int:
        """How many latents the prior has."""
        return self.prior.latent_dim

    @property
    def num_features(self) -> int:
        """Length of one row of the data."""
        return self.likelihood.num_features

    def rows(self, num_rows: int) -> Any:
        """Register the parameters with Pyro, and give the plate over the rows."""
        pyro.module(NAME, self)
        return pyro.plate(PLATE, num_rows)

    def _posterior(self, *inputs: torch.Tensor) -> Any:
        if self.encoder is None:
            raise ModelError(
                f"{type(self).__name__}.guide: the autoencoder was made without posterior=. Give it one, or fit "
                "with an automatic amortised guide."
            )
        return self.encoder(*inputs)

    def _observed(self, x: torch.Tensor | None) -> torch.Tensor:
        if x is None:
            raise MissingDataError(f"{type(self).__name__}.guide", "x")
        return x


def count_rows(x: torch.Tensor | None, num_rows: int | None) -> int:
    """The number of rows of the data, or of those to draw.

    Raises:
        ModelError: neither is given.
    """
    if x is not None:
        return len(x)
    if num_rows is None:
        raise ModelError("x is None and num_rows too: give the data, or how many rows of it to draw.")
    return num_rows
