"""What the bounds with several draws inside a logarithm have in common."""

from typing import ClassVar

from ppl_models.options import check_count
from ppl_models.program.estimators.drawing import Guide, Target, draw
from ppl_models.program.estimators.estimator import Estimator, Terms
from ppl_models.program.estimators.weights import check_weights, weights_of


class Weighted(Estimator):
    """A bound of importance weights; each datum has its own where its latents are its own.

    Attributes:
        num_importance: draws inside the logarithm.
    """

    num_importance: int

    of_bound: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_count("estimator_options['num_importance']", self.num_importance)

    @property
    def draws_inside(self) -> int:
        """Draws inside the logarithm."""
        return self.num_importance

    def particle(self, target: Target, guide: Guide) -> Terms:
        """The log weights of one draw, in nats."""
        found = weights_of(target, draw(target, guide))
        return {"log_weight": found.log_weight, "scale": found.scale}

    def check(self, target: Target, guide: Guide) -> None:
        """Refuse what has no weights."""
        super().check(target, guide)
        check_weights(target, guide)
