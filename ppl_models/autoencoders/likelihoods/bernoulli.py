"""Features that are zero or one."""

from typing import Any

import pyro.distributions as dist
import torch

from ppl_models.autoencoders.likelihoods.likelihood import Likelihood


class Bernoulli(Likelihood):
    """x_j ~ Bernoulli(sigmoid(outputs_j)), for data of zeros and ones alone.

    The decoder gives 1 output for each feature, its logit: num_outputs = num_features.

    Kingma and Welling (2014), Auto-encoding variational Bayes, appendix C.1. Grey values between zero and one have no
    density under it: `ContinuousBernoulli` is for them.
    """

    def distribution(self, outputs: torch.Tensor) -> Any:
        """Bernoulli distributions, batch shape (..., num_features)."""
        return dist.Bernoulli(logits=outputs)
