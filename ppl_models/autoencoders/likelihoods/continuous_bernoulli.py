"""Features anywhere between zero and one."""

from typing import Any

import pyro.distributions as dist
import torch
from torch.distributions import constraints

from ppl_models.autoencoders.likelihoods.likelihood import Likelihood

SMALL = 0.05
"""Logits closer to zero than this take a power series: the closed forms are 0 / 0 at zero."""


class ContinuousBernoulli(Likelihood):
    """x_j ~ continuous Bernoulli, for grey values between zero and one, both included.

    Density proportional to λ^x (1 - λ)^(1 - x) with λ = sigmoid(outputs_j), and normalised: the Bernoulli's cross
    entropy without the normaliser is no log density of greys. The decoder gives 1 output for each feature, its log
    odds: num_outputs = num_features.

    Loaiza-Ganem and Cunningham (2019), The continuous Bernoulli: fixing a pervasive error in variational autoencoders.
    """

    def distribution(self, outputs: torch.Tensor) -> Any:
        """Continuous Bernoulli distributions, batch shape (..., num_features)."""
        return TiltedUniform(outputs)


class TiltedUniform(dist.TorchDistribution):
    """The continuous Bernoulli by its log odds l: density l exp(l x) / (exp(l) - 1) for x in [0, 1].

    In log odds the density is that of an exponential cut at one. It is exact for any l; by way of the probability λ,
    the normaliser stops growing where λ rounds to one.

    Args:
        logits: log odds l, unitless, any shape.
    """

    arg_constraints: Any = {"logits": constraints.real}  # noqa: RUF012
    support: Any = constraints.unit_interval
    has_rsample = True

    def __init__(self, logits: torch.Tensor, validate_args: bool | None = None):
        self.logits = logits
        super().__init__(logits.shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "TiltedUniform":
        """The same distribution with this batch shape."""
        new = TiltedUniform(self.logits.expand(batch_shape), validate_args=False)
        new._validate_args = self._validate_args
        return new

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log density in nats, shape (*sample_shape, *batch_shape)."""
        if self._validate_args:
            self._validate_sample(value)
        return self.logits * (value - 0.5) - _log_sinhc(self.logits / 2)

    def rsample(self, sample_shape: Any = ()) -> torch.Tensor:
        """A reparameterised draw: the inverse of the distribution function at a uniform number."""
        shape = self._extended_shape(torch.Size(sample_shape))
        uniform = torch.rand(shape, dtype=self.logits.dtype, device=self.logits.device)
        size = self.logits.abs()
        small, near, safe = _split(size, SMALL)
        series = uniform - 0.5 * near * uniform * (1 - uniform)
        closed = -torch.log1p(uniform * torch.expm1(-safe)) / safe
        falling = torch.where(small, series, closed)
        return torch.where(self.logits > 0, 1 - falling, falling)

    @property
    def mean(self) -> torch.Tensor:
        """Mean, shape batch_shape: 1 / (1 - exp(-l)) - 1 / l, a half at l = 0."""
        small, near, safe = _split(self.logits, SMALL)
        square = near**2
        series = 0.5 + near / 12 * (1 - square / 60 * (1 - square / 42))
        size = safe.abs()
        rising = -1 / torch.expm1(-size) - 1 / size
        return torch.where(small, series, torch.where(safe > 0, rising, 1 - rising))


def _split(values: torch.Tensor, bound: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Where values are near zero; these, for a power series; and the others, for a closed form that is 0 / 0 at zero.

    Each is something harmless elsewhere, so that no infinite slope of a branch not taken makes a gradient NaN.
    """
    small = values.abs() < bound
    return (
        small,
        torch.where(small, values, torch.zeros_like(values)),
        torch.where(small, torch.ones_like(values), values),
    )


def _log_sinhc(half: torch.Tensor) -> torch.Tensor:
    """Log of sinh(h) / h."""
    small, near, safe = _split(half, SMALL / 2)
    size, square = safe.abs(), near**2
    series = square / 6 * (1 - square / 30 * (1 - square * 4 / 63))
    return torch.where(small, series, size + torch.log(-torch.expm1(-2 * size) / (2 * size)))
