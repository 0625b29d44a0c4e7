"""Features that take one of a few levels."""

from typing import Any

import pyro.distributions as dist
import torch

from ppl_models.autoencoders.likelihoods.likelihood import Likelihood
from ppl_models.options import check_count


class Categorical(Likelihood):
    """x_j ~ Categorical(softmax(outputs_j)) over the levels 0, 1, ..., num_levels - 1, as the ink levels of an image.

    The decoder gives num_levels outputs for each feature: the logits of all levels of the first feature, then of the
    second, and so on, num_outputs = num_features * num_levels. The order of the
    levels has no part in the density; van den Oord et al. (2016), Pixel recurrent neural networks, section 3.4.

    Args:
        num_features: length of one row of the data.
        num_levels: how many values a feature can take.
    """

    def __init__(self, num_features: int, *, num_levels: int):
        super().__init__(num_features)
        self.num_levels = check_count("num_levels", num_levels, least=2)

    @property
    def num_outputs(self) -> int:
        """A logit for each feature and level."""
        return self.num_features * self.num_levels

    def distribution(self, outputs: torch.Tensor) -> Any:
        """Categorical distributions, batch shape (..., num_features)."""
        return dist.Categorical(logits=outputs.unflatten(-1, (self.num_features, self.num_levels)))

    def mean(self, outputs: torch.Tensor) -> torch.Tensor:
        """Mean level, shape (..., num_features)."""
        probabilities = self.distribution(self._checked(outputs)).probs
        return probabilities @ torch.arange(self.num_levels).to(probabilities)
