"""The variational Rényi bound, one for each datum where its latents are its own."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from ppl_models.errors import OptionError
from ppl_models.options import check_count
from ppl_models.program.estimators.drawing import Guide, Target, draw
from ppl_models.program.estimators.estimator import Estimator, Terms
from ppl_models.program.estimators.importance_weighted import bound
from ppl_models.program.estimators.weights import check_weights, weights_of


@dataclass(frozen=True)
class Renyi(Estimator):
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
        check_count("estimator_options['num_importance']", self.num_importance)
        if isinstance(self.alpha, bool) or not isinstance(self.alpha, (int, float)) or not math.isfinite(self.alpha):
            raise OptionError(f"estimator_options['alpha']: found {self.alpha!r}, wanted a finite number.")

    @property
    def draws_inside(self) -> int:
        """Draws inside the logarithm."""
        return self.num_importance

    def particle(self, target: Target, guide: Guide) -> Terms:
        """The log weights of one draw, in nats."""
        found = weights_of(target, draw(target, guide))
        return {"log_weight": found.log_weight, "scale": found.scale}

    def combine(self, terms: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Minus the bound, the mean over groups of `num_importance` draws."""
        return -bound(terms, self.num_importance, 1.0 - float(self.alpha))

    def check(self, target: Target, guide: Guide) -> None:
        """Refuse what has no weights."""
        super().check(target, guide)
        check_weights(target, guide)
