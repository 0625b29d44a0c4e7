"""q(z | x) by a flow that sees the features of a row: what the flows of this package share."""

from typing import Any

import pyro.distributions as dist
import torch
from torch import nn

from guides.amortization.normal import NormalHead
from guides.family import require_positive_integer
from guides.zuko_flow import LocatedFlow, RememberedFlow, require_widths

HIDDEN_DIMS = (64,)
NEARLY_NOTHING = 0.01
"""Factor of the last layers' weights at the start: the flow begins near a simple map, and every weight has a slope."""


class FlowHead(nn.Module):
    """z = loc(x) + scale(x) * flow(e; x), e standard normal: near the normal of `NormalHead` at the start.

    The flow runs from noise to latents, so that a draw and its density cost one pass through each network. One number
    per row leaves a flow nothing to do: there the family is exactly the normal.

    Args:
        num_features: Length of the feature vectors.
        size: How many unconstrained numbers a row has.
        init_scale: Initial standard deviation, about.
        num_transforms: Number of layers.
        hidden_dims: Widths of the hidden layers of each layer's network.
    """

    options: tuple[str, ...] = ("num_transforms", "hidden_dims")
    num_transforms = 4

    def __init__(
        self,
        num_features: int,
        size: int,
        *,
        init_scale: float = 0.1,
        num_transforms: int | None = None,
        hidden_dims: Any = HIDDEN_DIMS,
    ):
        super().__init__()
        count = self.num_transforms if num_transforms is None else num_transforms
        require_positive_integer("num_transforms", count)
        require_widths(hidden_dims)
        self.base = NormalHead(num_features, size, init_scale=init_scale)
        layers = [
            self.layer(index, num_features, size, tuple(hidden_dims)) for index in range(count if size > 1 else 0)
        ]
        self.layers = nn.ModuleList(layers)

    def layer(self, index: int, num_features: int, size: int, hidden_dims: tuple[int, ...]) -> nn.Module:
        """A layer: a module with `call_and_ladj(x, features)` and `inv(y, features)`."""
        raise NotImplementedError

    def forward(self, features: torch.Tensor) -> Any:
        """The distribution of each row: features (..., num_features), batch shape (...), event shape (size,)."""
        loc, scale = self.base.loc_and_scale(features)
        if not len(self.layers):
            return dist.Normal(loc, scale).to_event(1)
        noise = dist.Normal(torch.zeros_like(loc), torch.ones_like(scale)).to_event(1)
        return RememberedFlow(noise, [LocatedFlow(FlowAt(self.layers, features), loc, scale)])


class FlowAt:
    """The layers of a flow at the features of each row.

    Args:
        layers: applied one after the other, from noise to latents.
        features: shape (..., num_features).
    """

    def __init__(self, layers: Any, features: torch.Tensor):
        self.layers, self.features = layers, features

    def call_and_ladj(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The image, shape (..., size), and the log Jacobian determinant, (...), in one pass."""
        total = x.new_zeros(x.shape[:-1])
        for layer in self.layers:
            x, ladj = layer.call_and_ladj(x, self.features)
            total = total + ladj
        return x, total

    def inv(self, y: torch.Tensor) -> torch.Tensor:
        """The noise of an image, shape (..., size)."""
        for layer in reversed(self.layers):
            y = layer.inv(y, self.features)
        return y
