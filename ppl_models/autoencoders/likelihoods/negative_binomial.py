"""Features that are counts, with variance above their mean."""

from typing import Any

import pyro.distributions as dist
import torch
from torch import nn
from torch.nn.functional import softplus

from ppl_models.autoencoders.likelihoods.likelihood import Likelihood
from ppl_models.autoencoders.likelihoods.rates import LOG_MEANS
from ppl_models.options import check_choice, check_positive

LARGE = 100.0
"""Above it, Stirling's series of log Γ is exact to the last digit of float64."""


class NegativeBinomial(Likelihood):
    """x_j ~ NegativeBinomial(mean μ_j, inverse dispersion θ_j): variance μ_j + μ_j² / θ_j.

    The decoder gives 1 output for each feature: num_outputs = num_features. The mean is softplus(outputs_j) or
    exp(outputs_j), and θ is learnt, one number for each feature; as θ grows this is
    the Poisson distribution. Lopez et al. (2018), Deep generative modeling for single-cell transcriptomics.

    Args:
        num_features: length of one row of the data.
        rate: "softplus" (steady where outputs are large, as those of an untrained network that reads raw counts) or
            "exp" (outputs are log means: effects multiply).
        init_inverse_dispersion: where θ starts.
    """

    def __init__(self, num_features: int, *, rate: str = "softplus", init_inverse_dispersion: float = 1.0):
        super().__init__(num_features)
        self.rate = check_choice("rate of counts", rate, LOG_MEANS)
        start = check_positive("init_inverse_dispersion", init_inverse_dispersion)
        self.log_inverse_dispersion = nn.Parameter(torch.full((self.num_features,), start).log())

    @property
    def inverse_dispersion(self) -> torch.Tensor:
        """θ of each feature, shape (num_features,)."""
        return self.log_inverse_dispersion.exp()

    def distribution(self, outputs: torch.Tensor) -> Any:
        """Negative binomial distributions, batch shape (..., num_features)."""
        log_odds = LOG_MEANS[self.rate](outputs) - self.log_inverse_dispersion
        return SteadyNegativeBinomial(self.inverse_dispersion, logits=log_odds)


class SteadyNegativeBinomial(dist.NegativeBinomial):
    """A negative binomial distribution whose density keeps its digits as the inverse dispersion θ grows.

    The log of Γ(θ + x) / Γ(θ) as a difference of two logs is off by whole nats in float32 at θ of some millions, where
    features end up that have no dispersion.

    Args:
        total_count: θ, positive, of a shape that broadcasts with the log odds.
        logits: log of μ / θ, any shape.
    """

    def __init__(self, total_count: torch.Tensor, logits: torch.Tensor, validate_args: bool | None = None):
        self.inverse_dispersion = total_count
        super().__init__(total_count, logits=logits, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "SteadyNegativeBinomial":
        """The same distribution with this batch shape."""
        new = SteadyNegativeBinomial(self.inverse_dispersion, self.logits.expand(batch_shape), validate_args=False)
        new._validate_args = self._validate_args
        return new

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log probability in nats, shape (*sample_shape, *batch_shape)."""
        if self._validate_args:
            self._validate_sample(value)
        theta, log_odds = self.inverse_dispersion, self.logits
        rising = log_rising_factorial(theta, value) - torch.lgamma(value + 1)
        return rising - theta * softplus(log_odds) - value * softplus(-log_odds)


def log_rising_factorial(theta: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
    """Log of Γ(θ + x) / Γ(θ), the rising factorial of θ over x = count, for positive θ and x of at least 0."""
    large = theta > LARGE
    # each branch sees only what it is for
    low, high = theta.clamp(max=LARGE), theta.clamp(min=LARGE)
    direct = torch.lgamma(low + count) - torch.lgamma(low)
    total = high + count
    expanded = count * total.log() + (high - 0.5) * torch.log1p(count / high) - count + _rest(total) - _rest(high)
    return torch.where(large, expanded, direct)


def _rest(value: torch.Tensor) -> torch.Tensor:
    """What log Γ has beyond Stirling's formula, to the sixth power of 1 / value."""
    square = value**-2
    return (1 - square / 30 * (1 - square * 2 / 7)) / (12 * value)
