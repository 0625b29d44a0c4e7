"""The gradient at hard draws as if they were smooth; biased."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from ppl_models.program.estimators.gumbel_softmax import GumbelSoftmax
from ppl_models.program.estimators.relaxation import Perturbed


@dataclass(frozen=True, repr=False)
class StraightThrough(GumbelSoftmax):
    """df at the hard draw times dsoft(z): the objective sees values that it knows, and the gradient passes through.

    Biased, and no temperature takes the bias away.

    Args:
        temperature: of the softmax, or of the sigmoid of a Bernoulli site, whose slope takes the place of the step's.

    Bengio, Léonard and Courville (2013), Estimating or propagating gradients through stochastic neurons for conditional
    computation; Jang, Gu and Poole (2017), Categorical reparameterization with Gumbel-softmax.
    """

    temperature: float = 1.0

    name: ClassVar[str] = "straight_through"

    def smooth(self, one: Perturbed) -> torch.Tensor:
        """The draw, with the gradient of its smooth relative."""
        soft = one.soft(one.free(one.logits), self.temperature)
        return one.hard + (soft - soft.detach())
