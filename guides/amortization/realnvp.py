"""q(z | x) by affine coupling layers that see the features of a row."""

from typing import Any

import torch
from torch import nn

from guides.amortization.flow import NEARLY_NOTHING, FlowHead
from guides.networks import MLP

STRONGEST = 3.0
"""Largest log scale of one layer, in absolute value; without a bound a step too far overflows."""


class RealNVPHead(FlowHead):
    """A normal pushed through coupling layers: each scales and shifts half of the coordinates by the others and x.

    A draw and the density of any value cost one pass through each network.

    Dinh, Sohl-Dickstein and Bengio (2017), Density estimation using Real NVP.
    """

    num_transforms = 4

    def layer(self, index: int, num_features: int, size: int, hidden_dims: tuple[int, ...]) -> nn.Module:
        """A coupling layer; even ones move the even coordinates."""
        return Coupling(index % 2, num_features, size, hidden_dims)


class Coupling(nn.Module):
    """y = x where x is kept, x * exp(s) + t elsewhere, s and t functions of the coordinates kept and of the features.

    Args:
        parity: 0 to move the even coordinates, 1 for the odd ones.
        num_features: Length of the feature vectors.
        size: Number of coordinates, at least two.
        hidden_dims: Widths of the network's hidden layers.
    """

    def __init__(self, parity: int, num_features: int, size: int, hidden_dims: tuple[int, ...]):
        super().__init__()
        self.size, self.moved = size, list(range(parity, size, 2))
        self.kept = list(range(1 - parity, size, 2))
        self.network = MLP(len(self.kept) + num_features, 2 * len(self.moved), hidden_dims, nn.SiLU)
        last: Any = self.network.layers[-1]
        with torch.no_grad():
            last.weight.mul_(NEARLY_NOTHING)

    def call_and_ladj(self, x: torch.Tensor, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The image and the log Jacobian determinant."""
        kept, moved = x[..., self.kept], x[..., self.moved]
        log_scale, shift = self._log_scale_and_shift(kept, features)
        return self._together(kept, moved * log_scale.exp() + shift), log_scale.sum(-1)

    def inv(self, y: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """The point whose image this is."""
        kept, moved = y[..., self.kept], y[..., self.moved]
        log_scale, shift = self._log_scale_and_shift(kept, features)
        return self._together(kept, (moved - shift) * (-log_scale).exp())

    def _log_scale_and_shift(self, kept: torch.Tensor, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        log_scale, shift = self.network(beside(features, kept)).chunk(2, -1)
        return STRONGEST * (log_scale / STRONGEST).tanh(), shift

    def _together(self, kept: torch.Tensor, moved: torch.Tensor) -> torch.Tensor:
        place = {coordinate: index for index, coordinate in enumerate((*self.kept, *self.moved))}
        return torch.cat([kept, moved], -1)[..., [place[coordinate] for coordinate in range(self.size)]]


def beside(features: torch.Tensor, *vectors: torch.Tensor) -> torch.Tensor:
    """Features and other vectors of the same rows as one vector, over leading axes that some may lack."""
    lead = torch.broadcast_shapes(features.shape[:-1], *(vector.shape[:-1] for vector in vectors))
    return torch.cat([part.expand(*lead, part.shape[-1]) for part in (features, *vectors)], -1)
