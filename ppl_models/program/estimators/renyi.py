"""The variational Rényi bound, one for each datum where its latents are its own."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from ppl_models.errors import OptionError
from ppl_models.program.estimators.importance_weighted import bound
from ppl_models.program.estimators.weighted import Weighted


@dataclass(frozen=True, repr=False)
class Renyi(Weighted):
    """Sum over data of E[log mean_k w_k^(1 - alpha)] / (1 - alpha), w = p / q.

    At alpha = 1 it is the ELBO, at alpha = 0 the importance weighted bound with the same draws; below 0 the estimate
    may exceed the evidence. The weights are those of `ImportanceWeighted`: a datum's own where its latents are, and
    unscaled.

    Args:
        alpha: the order.
        num_importance: draws inside the logarithm.

    Li and Turner (2016), Rényi divergence variational inference.
    """

    alpha: float = 0.5
    num_importance: int = 16

    name: ClassVar[str] = "renyi"

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.alpha, bool) or not isinstance(self.alpha, (int, float)) or not math.isfinite(self.alpha):
            raise OptionError(f"estimator_options['alpha']: found {self.alpha!r}, wanted a finite number.")

    def combine(self, terms: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Minus the bound, the mean over groups of `num_importance` draws."""
        return -bound(terms, self.num_importance, 1.0 - float(self.alpha))
