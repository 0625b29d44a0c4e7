"""The importance weighted bound, one for each datum where its latents are its own."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from ppl_models.program.estimators.weighted import Weighted
from ppl_models.program.estimators.weights import grouped


@dataclass(frozen=True, repr=False)
class ImportanceWeighted(Weighted):
    """Sum over data of E[log mean_k w_k], w = p / q, differentiated with all that depends on the parameters.

    Where one plate (or several) holds every site of model and guide, each datum has weights of its own, unscaled; with
    a subsample of the plate the sum is scaled up outside the logarithm. Elsewhere one weight counts for everything.

    Args:
        num_importance: draws inside the logarithm.

    Burda, Grosse and Salakhutdinov (2016), Importance weighted autoencoders.
    """

    num_importance: int = 16

    name: ClassVar[str] = "importance_weighted"

    def combine(self, terms: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Minus the bound, the mean over groups of `num_importance` draws."""
        return -bound(terms, self.num_importance)


def bound(terms: Mapping[str, torch.Tensor], num_importance: int, power: float = 1.0) -> torch.Tensor:
    """Sum over data of log mean_k w_k^power / power in nats, the mean over groups of draws; the ELBO at power 0."""
    weights = grouped(terms, "log_weight", num_importance)
    if power == 0.0:
        each = weights.mean(dim=1)
    else:
        each = (torch.logsumexp(power * weights, dim=1) - math.log(weights.shape[1])) / power
    return (terms["scale"][0] * each).sum() / len(weights)
