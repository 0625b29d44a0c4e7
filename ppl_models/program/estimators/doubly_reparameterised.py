"""The importance weighted bound with the doubly reparameterised gradient."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import pyro.poutine as poutine
import torch

from ppl_models.program.estimators.drawing import Again, Guide, Target, detached, draw, held_still
from ppl_models.program.estimators.estimator import Terms, with_gradient_of
from ppl_models.program.estimators.importance_weighted import bound
from ppl_models.program.estimators.sticking_the_landing import check_frozen
from ppl_models.program.estimators.weighted import Weighted
from ppl_models.program.estimators.weights import grouped, weights_of
from ppl_models.program.nodes import nodes_of


@dataclass(frozen=True, repr=False)
class DoublyReparameterised(Weighted):
    """The bound of `ImportanceWeighted`; its signal to noise does not fall as the draws inside become more.

    With v_k = w_k / sum_j w_j, the gradient by the guide's parameters is sum_k v_k^2 dlog w_k through the draw alone;
    by the model's it is sum_k v_k dlog p, the draws held fixed.

    Args:
        num_importance: draws inside the logarithm.

    Tucker et al. (2019), Doubly reparameterized gradient estimators for Monte Carlo objectives.
    """

    num_importance: int = 16

    name: ClassVar[str] = "doubly_reparameterised"

    def particle(self, target: Target, guide: Guide) -> Terms:
        """The log weights of one draw in nats, once through the draw alone and once by the model's parameters."""
        trace = draw(target, guide)
        with detached():
            frozen = draw(target, Again(trace)(guide))
            still = held_still(frozen)
            through = weights_of(target, frozen, trace)
        with poutine.trace(param_only=True) as seen:
            by_model = weights_of(target, still, guide_learns=False)
        learns = any(node["type"] == "param" for node in nodes_of(seen.trace).values())
        of_model = by_model.log_weight if learns else through.log_weight.detach()
        return {"log_weight": through.log_weight, "of_model": of_model, "scale": through.scale}

    def combine(self, terms: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Minus the bound, the mean over groups of `num_importance` draws."""
        through = grouped(terms, "log_weight", self.num_importance)
        of_model = grouped(terms, "of_model", self.num_importance)
        normalised = torch.softmax(through.detach(), dim=1)
        each = (normalised.square() * through + normalised * of_model).sum(dim=1)
        surrogate = (terms["scale"][0] * each).sum() / len(through)
        return with_gradient_of(-bound(terms, self.num_importance), -surrogate)

    def check(self, target: Target, guide: Guide) -> None:
        """Refuse what has no weights, or no density at a given draw."""
        super().check(target, guide)
        check_frozen(self.name, target, guide)
