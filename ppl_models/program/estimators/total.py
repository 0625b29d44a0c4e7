"""The total gradient of the evidence lower bound: autograd's, of the log ratio at reparameterised draws."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from ppl_models.program.elbo import Call, LogRatio, call_log_ratio, program_log_ratio
from ppl_models.program.estimators.drawing import Guide, Target, average, draw, objective, strata_of
from ppl_models.program.estimators.estimator import Estimator, Terms
from ppl_models.program.estimators.expected import Expected


def any_log_ratio(target: Target, guide: Guide) -> torch.Tensor:
    """Log p - log q in nats at one draw of a guide; the function of a free expectation."""
    if isinstance(target, Expected):
        return objective(target, draw(target, guide))
    return call_log_ratio(target, guide) if isinstance(target, Call) else program_log_ratio(target, guide)


@dataclass(frozen=True, repr=False)
class Total(Estimator):
    """E[log p(z) - log q(z)], differentiated with all that depends on the parameters.

    Args:
        log_ratio: the log ratio of one draw; another one may hold terms in closed form.

    Kingma and Welling (2014), Auto-encoding variational Bayes.
    """

    log_ratio: LogRatio = any_log_ratio

    name: ClassVar[str] = "total"
    needs_reparameterised: ClassVar[bool] = False  # Pyro adds the score function where it is needed
    takes_strata: ClassVar[bool] = True

    @property
    def options(self) -> dict[str, Any]:
        """None."""
        return {}

    def particle(self, target: Target, guide: Guide) -> Terms:
        """The log ratio of one draw of each stratum, averaged with the strata's weights."""
        ratios = [(weight, self.log_ratio(target, stratum)) for weight, stratum in strata_of(target, guide)]
        return {"log_ratio": average(ratios)}

    def combine(self, terms: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Minus the mean over particles."""
        return -terms["log_ratio"].mean()
