"""The gradient through reparameterised draws, and through nothing else."""

from dataclasses import dataclass
from typing import ClassVar

from ppl_models.program.estimators.total import Total


@dataclass(frozen=True, repr=False)
class Reparameterised(Total):
    """`Total` where every draw is reparameterised; any other guide is refused.

    Of a free expectation E_q[f(z)], z = T(noise, parameters), it is the mean of df(T) / dparameters.

    Kingma and Welling (2014), Auto-encoding variational Bayes; Rezende, Mohamed and Wierstra (2014), Stochastic
    backpropagation and approximate inference in deep generative models.
    """

    name: ClassVar[str] = "reparameterised"
    needs_reparameterised: ClassVar[bool] = True
