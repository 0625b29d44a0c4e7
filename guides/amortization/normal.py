"""q(z | x) normal with independent coordinates: the posterior of the first variational autoencoders."""

import math
from typing import Any

import pyro.distributions as dist
import torch
from torch import nn
from torch.nn import functional


class NormalHead(nn.Module):
    """A normal whose means and scales are linear in the features, scales through a softplus.

    It begins with the same scale for every row, and with means that have about the size of the features.

    Args:
        num_features: Length of the feature vectors.
        size: How many unconstrained numbers a row has.
        init_scale: Initial standard deviation.

    Kingma and Welling (2014), Auto-encoding variational Bayes; Rezende, Mohamed and Wierstra (2014), Stochastic
    backpropagation and approximate inference in deep generative models.
    """

    options: tuple[str, ...] = ()

    def __init__(self, num_features: int, size: int, *, init_scale: float = 0.1):
        super().__init__()
        self.loc = first_linear(num_features, size)
        self.scale = constant_linear(num_features, size, inverse_softplus(init_scale))

    def forward(self, features: torch.Tensor) -> Any:
        """The distribution of each row: features (..., num_features), batch shape (...), event shape (size,)."""
        return dist.Normal(*self.loc_and_scale(features)).to_event(1)

    def loc_and_scale(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Means and standard deviations, shape (..., size) each."""
        return self.loc(features), positive(self.scale(features))


def positive(free: torch.Tensor) -> torch.Tensor:
    """A softplus that never underflows to zero, so that a log density stays finite."""
    return functional.softplus(free) + torch.finfo(free.dtype).eps


def inverse_softplus(value: float) -> float:
    """The number whose softplus is a positive one."""
    return value + math.log(-math.expm1(-value))


def first_linear(num_features: int, size: int) -> nn.Linear:
    """A linear layer whose outputs begin with about the size of its inputs, around zero."""
    layer = nn.Linear(num_features, size)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def constant_linear(num_features: int, size: int, value: float) -> nn.Linear:
    """A linear layer that begins as a constant."""
    layer = nn.Linear(num_features, size)
    nn.init.zeros_(layer.weight)
    nn.init.constant_(layer.bias, value)
    return layer
