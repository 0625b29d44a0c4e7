"""The gradient of a smooth relative of the objective; biased."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from ppl_models.options import check_positive
from ppl_models.program.estimators.drawing import Guide, Target, objective
from ppl_models.program.estimators.estimator import Terms, with_gradient_of
from ppl_models.program.estimators.relaxation import Perturbed
from ppl_models.program.estimators.relaxing import Relaxing, objective_at


@dataclass(frozen=True, repr=False)
class GumbelSoftmax(Relaxing):
    """The gradient of E[f(soft(z))] in the place of that of E[f(hard(z))], z = logits + noise.

    Biased: it is the gradient of another objective, and the nearer that is (a low temperature), the noisier. The value
    is that of the hard draws. Densities are continued linearly between the values.

    Args:
        temperature: of the softmax, or of the sigmoid of a Bernoulli site.

    Jang, Gu and Poole (2017), Categorical reparameterization with Gumbel-softmax; Maddison, Mnih and Teh (2017), The
    concrete distribution.
    """

    temperature: float = 0.5

    name: ClassVar[str] = "gumbel_softmax"
    needs_reparameterised: ClassVar[bool] = False
    pathwise: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_positive("estimator_options['temperature']", self.temperature)

    @property
    def biased(self) -> bool:
        """Yes."""
        return True

    def particle(self, target: Target, guide: Guide) -> Terms:
        """The objective at a draw, and at its smooth relative."""
        trace, drawn = self.perturbed(target, guide)
        smooth = {name: self.smooth(one) for name, one in drawn.items()}
        return {"log_ratio": objective(target, trace), "smooth": objective_at(target, guide, trace, smooth)}

    def smooth(self, one: Perturbed) -> torch.Tensor:
        """The value that a site has in the place of its draw."""
        return one.soft(one.free(one.logits), self.temperature)

    def combine(self, terms: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Minus the mean over particles."""
        return with_gradient_of(-terms["log_ratio"].mean(), -terms["smooth"].mean())
