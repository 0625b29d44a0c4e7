"""A distribution for each label, and the expectation of its log density over labels with known weights."""

from typing import Any

import pyro.distributions as dist
import torch
from torch.distributions import constraints


class LabelWeighted(dist.TorchDistribution):
    """Log density sum_c w_c log p_c: what a bound has of one factor when the labels c are summed out with weights w.

    With weights of one and zeros it is the density given that label. It is no normalised density otherwise, and is used
    in model and guide alike, so that their difference is the expectation of log p - log q over the labels.

    Args:
        base: A distribution for each label, batch shape (..., label).
        weights: Probabilities of the labels, shape (..., label).
        shared: Whether the labels share one value, as observed data do; otherwise a value holds one for each label,
            event shape (label, *event of the base).
    """

    arg_constraints: Any = {}  # noqa: RUF012

    def __init__(self, base: Any, weights: torch.Tensor, *, shared: bool, validate_args: bool | None = None):
        self.base, self.weights, self.shared = base, weights, shared
        batch = torch.broadcast_shapes(base.batch_shape, weights.shape)
        event = base.event_shape if shared else batch[-1:] + base.event_shape
        super().__init__(batch[:-1], event, validate_args=validate_args)

    @property
    def has_rsample(self) -> bool:
        """Whether draws carry gradients: those of one value for each label, if the base's do."""
        return not self.shared and self.base.has_rsample

    @property
    def support(self) -> Any:
        """That of the base, with the labels' axis among the event dims where each has a value."""
        return self.base.support if self.shared else constraints.independent(self.base.support, 1)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "LabelWeighted":
        """The same distribution with this batch shape."""
        shape = torch.Size(batch_shape)
        labels = self.weights.shape[-1:]
        return LabelWeighted(
            self.base.expand(shape + labels),
            self.weights.expand(shape + labels),
            shared=self.shared,
            validate_args=False,
        )

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Expected log density in nats, shape (*sample_shape, *batch_shape)."""
        if self.shared:
            value = value.unsqueeze(-1 - len(self.base.event_shape))
        return (self.weights * self.base.log_prob(value)).sum(-1)

    def rsample(self, sample_shape: Any = ()) -> torch.Tensor:
        """A draw for each label."""
        return self.base.expand(self.batch_shape + self.weights.shape[-1:]).rsample(torch.Size(sample_shape))

    def sample(self, sample_shape: Any = ()) -> torch.Tensor:
        """A draw for each label, or one of a label that is drawn by the weights."""
        shape = torch.Size(sample_shape)
        labels = self.weights.shape[-1:]
        with torch.no_grad():
            draws = self.base.expand(self.batch_shape + labels).sample(shape)
            if not self.shared:
                return draws
            chosen = dist.OneHotCategorical(self.weights.expand(self.batch_shape + labels)).sample(shape)
            event_dim = len(self.base.event_shape)
            chosen = chosen.reshape(chosen.shape + (1,) * event_dim)
            return (draws * chosen).sum(-1 - event_dim)
