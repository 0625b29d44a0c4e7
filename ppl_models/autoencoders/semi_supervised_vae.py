"""The semi-supervised variational autoencoder: some rows have labels, those of the others are summed out."""

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import nn

from guides.amortization.realnvp import beside
from ppl_models.autoencoders.autoencoder import Autoencoder, count_rows
from ppl_models.autoencoders.label_weights import LabelWeighted
from ppl_models.errors import DataError
from ppl_models.options import check_choice, check_count

UNLABELLED = -1
"""The label of rows that have none."""
HOW = ("enumerated", "sampled")


class SemiSupervisedVAE(Autoencoder):
    """y_n ~ Categorical, z_n ~ p(z), x_n ~ likelihood(decoder(z_n, y_n)), with labels y of some rows alone.

    The guide is q(y | x) q(z | x, y). What it maximises is, for a row with a label,

        E_q(z | x, y) [log p(x | y, z) + log p(z) - log q(z | x, y)] + log p(y) + alpha log q(y | x),

    and for a row without one the sum over all labels of q(y | x) times the same without alpha, less log q(y | x):
    exact, with one draw of z for each label, and all of it reparameterised, so that any Trace_ELBO, compiled ones too,
    makes its steps. The sites "z" of model and guide hold the latents under every label, event shape (num_classes,
    latent_dim), and "label_probabilities" is q(y | x), or the label given. With alpha = 0 the objective is a lower
    bound of log p(x, y) and log p(x); alpha trains q(y | x) on the labels, which the bound alone does not.

    `labels="sampled"` draws a label for each row in place of the sum, a site "label" that needs the score function: the
    same objective in expectation, with more noise.

    Args:
        decoder: maps latents and labels, side by side (..., latent_dim + num_classes), to the likelihood's outputs,
            (..., num_outputs), as many as for `VAE`.
        latent_dim: how many latents a row has.
        num_classes: how many labels there are.
        classifier: maps rows (..., num_features) to logits of q(y | x), shape (..., num_classes).
        posterior: q(z | x, y): maps rows and labels, side by side (..., num_features + num_classes), to a Pyro
            distribution of event shape (latent_dim,).
        alpha: weight of the classification term, for each row with a label; Kingma et al. take a tenth of the number of
            rows over the number of labelled ones.
        labels: "enumerated" or "sampled".
        parts: likelihood, num_features, likelihood_options and prior, as for `VAE`.

    Kingma, Rezende, Mohamed and Welling (2014), Semi-supervised learning with deep generative models (M2).
    """

    classes: torch.Tensor

    def __init__(
        self,
        decoder: nn.Module,
        latent_dim: int,
        *,
        num_classes: int,
        classifier: nn.Module,
        posterior: nn.Module | None = None,
        alpha: float = 1.0,
        labels: str = "enumerated",
        **parts: Any,
    ):
        super().__init__(decoder, latent_dim, posterior=posterior, **parts)
        self.num_classes = check_count("num_classes", num_classes, least=2)
        self.classifier, self.alpha = classifier, float(alpha)
        self.labels = check_choice("labels", labels, HOW)
        self.register_buffer("classes", torch.eye(self.num_classes), persistent=False)

    def forward(
        self, x: torch.Tensor | None = None, y: torch.Tensor | None = None, num_rows: int | None = None
    ) -> torch.Tensor:
        """The model.

        Args:
            x: data, shape (row, num_features), in the units of the likelihood; None to draw them.
            y: labels 0, 1, ..., or -1 for rows without one, shape (row,); None where no row has one. Where x is None,
                the labels to draw rows of.
            num_rows: how many rows to draw where both are None.

        Returns:
            The data, observed or drawn, shape (row, num_features).
        """
        if x is None:
            return self._draw(y, count_rows(y, num_rows))
        with self.rows(len(x)):
            weights = self._weights(x, y)
            prior = self.prior()
            if self.labels == "sampled":
                pyro.factor("label_terms", self._label_terms(x, y)[1])
                labels = self._one_label(torch.full_like(weights, 1.0 / self.num_classes), y)
                z = pyro.sample("z", prior)
                return pyro.sample("x", self.decode(z, labels), obs=x)
            pyro.deterministic("label_probabilities", weights, event_dim=1)
            pyro.factor("label_terms", torch.stack(self._label_terms(x, y)).sum(0))
            prior = prior.expand((len(x), self.num_classes))
            z = pyro.sample("z", LabelWeighted(prior, weights, shared=False))
            likelihood = self.decode(z, self.classes)
            return pyro.sample("x", LabelWeighted(likelihood, weights, shared=True), obs=x)

    def guide(self, x: torch.Tensor | None = None, y: torch.Tensor | None = None, num_rows: int | None = None) -> None:
        """The guide q(y | x) q(z | x, y) of every row; arguments as for the model.

        Raises:
            MissingDataError: x is None.
            ModelError: the autoencoder was made without a posterior.
        """
        x = self._observed(x)
        with self.rows(len(x)):
            weights = self._weights(x, y)
            if self.labels == "sampled":
                pyro.sample("z", self.posterior(x, self._one_label(self.classify(x), y)))
            else:
                q = self.posterior(x.unsqueeze(-2), self.classes)
                pyro.sample("z", LabelWeighted(q, weights, shared=False))

    def decode(self, z: torch.Tensor, labels: torch.Tensor) -> Any:
        """p(x | y, z): event shape (num_features,), for z (..., latent_dim) and labels as vectors."""
        return self.likelihood(self.decoder(beside(z, labels.to(z))))

    def posterior(self, x: torch.Tensor, labels: torch.Tensor) -> Any:
        """q(z | x, y): event shape (latent_dim,), for x (..., num_features) and labels as vectors."""
        return self._posterior(beside(x.to(self.classes), labels))

    def classify(self, x: torch.Tensor) -> torch.Tensor:
        """q(y | x), shape (..., num_classes), for rows (..., num_features)."""
        return self.classifier(x.to(self.classes)).softmax(-1)

    def _weights(self, x: torch.Tensor, y: torch.Tensor | None) -> torch.Tensor:
        """Probabilities of the labels, shape (row, num_classes): q(y | x), or one and zeros where one is known."""
        probabilities = self.classify(x)
        if y is None:
            return probabilities
        return torch.where((y == UNLABELLED).unsqueeze(-1), probabilities, self._one_hot(y))

    def _label_terms(self, x: torch.Tensor, y: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """What the objective has of labels alone, shape (row,): of rows without a label, and of those with one.

        The first is the expectation of log p(y) - log q(y | x), the second log p(y) + alpha log q(y | x).
        """
        log_q = self.classifier(x.to(self.classes)).log_softmax(-1)
        log_p = -torch.log(torch.full_like(log_q, self.num_classes))
        without = (log_q.exp() * (log_p - log_q)).sum(-1)
        if y is None:
            return without, torch.zeros_like(without)
        given = (self._one_hot(y) * (log_p + self.alpha * log_q)).sum(-1)  # zero for rows without a label
        return torch.where(y == UNLABELLED, without, torch.zeros_like(without)), given

    def _one_label(self, probabilities: torch.Tensor, y: torch.Tensor | None) -> torch.Tensor:
        """One label for each row as a vector: the label given, or one drawn at the site "label"."""
        if y is None:
            return pyro.sample("label", dist.OneHotCategorical(probabilities))
        free = y == UNLABELLED
        drawn = pyro.sample("label", dist.OneHotCategorical(probabilities).mask(free))
        return torch.where(free.unsqueeze(-1), drawn, self._one_hot(y))

    def _one_hot(self, y: torch.Tensor) -> torch.Tensor:
        found = y.unsqueeze(-1) == torch.arange(self.num_classes, device=y.device)
        if dist.is_validation_enabled() and not bool((found.any(-1) | (y == UNLABELLED)).all()):
            raise DataError(
                f"y: found labels outside 0, ..., {self.num_classes - 1}; wanted those, and {UNLABELLED} for rows "
                "without a label. Number the classes from 0, or give a larger num_classes."
            )
        return found.to(self.classes)

    def _draw(self, y: torch.Tensor | None, num_rows: int) -> torch.Tensor:
        """Rows of the prior predictive, of the labels given."""
        with self.rows(num_rows):
            uniform = self.classes.new_full((self.num_classes,), 1.0 / self.num_classes)
            drawn = pyro.sample("label", dist.OneHotCategorical(uniform))
            labels = drawn if y is None else torch.where((y == UNLABELLED).unsqueeze(-1), drawn, self._one_hot(y))
            z = pyro.sample("z", self.prior())
            return pyro.sample("x", self.decode(z, labels))
