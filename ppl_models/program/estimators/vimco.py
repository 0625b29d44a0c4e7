"""The importance weighted bound by the score of discrete sites, each draw compared with the others inside."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from ppl_models.options import check_count
from ppl_models.program.estimators.drawing import Guide, Target, draw
from ppl_models.program.estimators.estimator import Terms, with_gradient_of
from ppl_models.program.estimators.importance_weighted import bound
from ppl_models.program.estimators.signals import signal_of
from ppl_models.program.estimators.weighted import Weighted
from ppl_models.program.estimators.weights import grouped


@dataclass(frozen=True, repr=False)
class Vimco(Weighted):
    """Sum over data of L = E[log mean_k w_k], for guides with sites that have no `rsample`.

    The gradient is dL through reparameterised draws and log w, plus sum_k (L - L_-k) ds_k, where s_k is the log density
    of the k-th draw's sites without `rsample`, and L_-k has the geometric mean of the others in the place of w_k: it
    depends on none of the k-th draw. The weights are `ImportanceWeighted`'s: a datum's own where its latents are.

    Args:
        num_importance: draws inside the logarithm, at least 2.

    Mnih and Rezende (2016), Variational inference for Monte Carlo objectives.
    """

    num_importance: int = 16

    name: ClassVar[str] = "vimco"
    needs_reparameterised: ClassVar[bool] = False
    pathwise: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_count("estimator_options['num_importance']", self.num_importance, least=2)

    def particle(self, target: Target, guide: Guide) -> Terms:
        """The log weights of one draw, and the log density of the sites that are not reparameterised, in nats."""
        signal = signal_of(target, draw(target, guide))
        return {"log_weight": signal.value, "log_score": signal.score, "scale": signal.scale}

    def combine(self, terms: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Minus the bound, the mean over groups of `num_importance` draws."""
        value = bound(terms, self.num_importance)
        weights = grouped(terms, "log_weight", self.num_importance).detach()
        score = grouped(terms, "log_score", self.num_importance)
        inside = weights.shape[1]
        if inside < 2:
            return -value
        whole = torch.logsumexp(weights, dim=1, keepdim=True)
        geometric = (weights.sum(dim=1, keepdim=True) - weights) / (inside - 1)
        each = torch.where(_eye(inside, weights), geometric.unsqueeze(2), weights.unsqueeze(1))
        signal = whole - torch.logsumexp(each, dim=2)
        by_score = (terms["scale"][0] * (signal * score).sum(dim=1)).sum() / len(weights)
        return with_gradient_of(-value, -(value + by_score))


def _eye(size: int, weights: torch.Tensor) -> torch.Tensor:
    """Which draw is left out, of shape (left out, draw, 1, ...)."""
    eye = torch.eye(size, dtype=torch.bool, device=weights.device)
    return eye.reshape(size, size, *(1 for _ in weights.shape[2:]))
