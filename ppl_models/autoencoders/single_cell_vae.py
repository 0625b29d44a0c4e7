"""The variational autoencoder of single cells: counts of transcripts, with the size of each cell's library."""

import math
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import nn

from ppl_models.autoencoders.autoencoder import Autoencoder, count_rows
from ppl_models.autoencoders.likelihoods import NegativeBinomial, Poisson
from ppl_models.options import check_choice

COUNTS = {"negative_binomial": NegativeBinomial, "poisson": Poisson}
LIBRARIES = ("observed", "latent")
START = math.log(2_000.0)
"""Where the mean log size of libraries starts, and what prior draws of one that is observed have."""


class SingleCellVAE(Autoencoder):
    """z_n ~ p(z), x_n ~ counts with mean l_n softmax(decoder(z_n)): expression shares z, library sizes l.

    The size of a cell's library, how many transcripts of it were read, says nothing of its type: what the decoder gives
    are shares of the genes, and l scales them. Counts are negative binomial with one dispersion for each gene, or
    Poisson for comparison.

    Args:
        decoder: maps latents (..., latent_dim) to logits of the genes' shares, (..., num_features): one for each gene.
        latent_dim: how many latents a cell has.
        num_features: how many genes.
        counts: "negative_binomial" or "poisson".
        library: "observed": l_n is the cell's total; "latent": log l_n ~ Normal(mean, sd), both learnt, a site
            "log_library".
        posterior: q(z | x) for `guide`: maps log(1 + x), shape (..., num_features), to a Pyro distribution of event
            shape (latent_dim,).
        library_posterior: q(log l | x) for `guide`, from the same input, of event shape (1,); with a latent library.
        prior: p(z); a standard normal by default.

    Lopez, Regier, Cole, Jordan and Yosef (2018), Deep generative modeling for single-cell transcriptomics.
    """

    def __init__(
        self,
        decoder: nn.Module,
        latent_dim: int,
        *,
        num_features: int,
        counts: str = "negative_binomial",
        library: str = "observed",
        posterior: nn.Module | None = None,
        library_posterior: nn.Module | None = None,
        prior: Any = None,
    ):
        kind = COUNTS[check_choice("counts", counts, COUNTS)]
        super().__init__(
            decoder, latent_dim, likelihood=kind(num_features, rate="exp"), prior=prior, posterior=posterior
        )
        self.library = check_choice("library", library, LIBRARIES)
        self.library_posterior = library_posterior
        if library == "latent":
            self.log_library_mean = nn.Parameter(torch.tensor([START]))
            self.log_library_log_sd = nn.Parameter(torch.tensor([0.0]))

    def forward(self, x: torch.Tensor | None = None, num_rows: int | None = None) -> torch.Tensor:
        """The model.

        Args:
            x: counts, shape (cell, gene); None to draw them.
            num_rows: how many cells to draw where x is None.

        Returns:
            The counts, observed or drawn, shape (cell, gene).
        """
        with self.rows(count_rows(x, num_rows)):
            z = pyro.sample("z", self.prior())
            if self.library == "latent":
                size = dist.Normal(self.log_library_mean, self.log_library_log_sd.exp())
                log_library = pyro.sample("log_library", size.to_event(1))
            else:
                log_library = self._log_totals(x, z)
            return pyro.sample("x", self.decode(z, log_library), obs=x)

    def guide(self, x: torch.Tensor | None = None, num_rows: int | None = None) -> None:
        """The guide q(z | x), times q(log l | x) where libraries are latent; arguments as for the model.

        Raises:
            MissingDataError: x is None.
            ModelError: the autoencoder was made without a posterior.
        """
        x = self._observed(x)
        with self.rows(len(x)):
            pyro.sample("z", self.posterior(x))
            if self.library == "latent":
                pyro.sample("log_library", self._log_library(x))

    def decode(self, z: torch.Tensor, log_library: torch.Tensor) -> Any:
        """p(x | z, l): event shape (num_features,), for z (..., latent_dim) and log l (..., 1)."""
        return self.likelihood(log_library + self.decoder(z).log_softmax(-1))

    def shares(self, z: torch.Tensor) -> torch.Tensor:
        """What part of a cell's transcripts each gene has, shape (..., num_features); they sum to one."""
        return self.decoder(z).softmax(-1)

    def posterior(self, x: torch.Tensor) -> Any:
        """q(z | x): event shape (latent_dim,), for counts (..., num_features)."""
        return self._posterior(torch.log1p(x))

    def _log_library(self, x: torch.Tensor) -> Any:
        """q(log l | x): the network's, or about as wide as a count of so many transcripts leaves it."""
        if self.library_posterior is not None:
            return self.library_posterior(torch.log1p(x))
        total = x.sum(-1, keepdim=True).clamp_min(1.0).to(self.log_library_mean)
        return dist.Normal(total.log(), total.rsqrt()).to_event(1)

    def _log_totals(self, x: torch.Tensor | None, z: torch.Tensor) -> torch.Tensor:
        if x is None:
            return torch.full_like(z[..., :1], START)
        return x.sum(-1, keepdim=True).clamp_min(1.0).log().to(z)
