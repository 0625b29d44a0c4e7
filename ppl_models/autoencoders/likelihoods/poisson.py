"""Features that are counts, with variance equal to their mean."""

from typing import Any

import pyro.distributions as dist
import torch

from ppl_models.autoencoders.likelihoods.likelihood import Likelihood
from ppl_models.autoencoders.likelihoods.rates import LOG_MEANS
from ppl_models.options import check_choice


class Poisson(Likelihood):
    """x_j ~ Poisson(rate_j), rate_j = softplus(outputs_j) or exp(outputs_j).

    The decoder gives 1 output for each feature: num_outputs = num_features.

    Args:
        num_features: length of one row of the data.
        rate: "softplus" (steady where outputs are large, as those of an untrained network that reads raw counts) or
            "exp" (outputs are log rates: effects multiply).
    """

    def __init__(self, num_features: int, *, rate: str = "softplus"):
        super().__init__(num_features)
        self.rate = check_choice("rate of counts", rate, LOG_MEANS)

    def distribution(self, outputs: torch.Tensor) -> Any:
        """Poisson distributions, batch shape (..., num_features)."""
        return LogRatePoisson(LOG_MEANS[self.rate](outputs))


class LogRatePoisson(dist.Poisson):
    """A Poisson distribution by the log of its rate, whose density stays finite where the rate rounds to zero.

    Args:
        log_rate: log of the expected count, any shape.
    """

    def __init__(self, log_rate: torch.Tensor, validate_args: bool | None = None):
        self.log_rate = log_rate
        super().__init__(log_rate.exp(), validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "LogRatePoisson":
        """The same distribution with this batch shape."""
        new = LogRatePoisson(self.log_rate.expand(batch_shape), validate_args=False)
        new._validate_args = self._validate_args
        return new

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log probability in nats, shape (*sample_shape, *batch_shape)."""
        if self._validate_args:
            self._validate_sample(value)
        return value * self.log_rate - self.rate - torch.lgamma(value + 1)
