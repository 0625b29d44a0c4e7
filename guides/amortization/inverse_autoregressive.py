"""q(z | x) by inverse autoregressive flows that see the features of a row."""

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from guides.amortization.flow import NEARLY_NOTHING, FlowHead

FORGET = 2.0
"""Initial logit of the gates: most of a coordinate is kept (Kingma et al. 2016, section 4)."""


class InverseAutoregressiveHead(FlowHead):
    """A normal pushed through gated autoregressive layers, each with a masked network of noise and features.

    A draw and its density cost one pass through each network; the density of another value costs one pass for each
    coordinate.

    Kingma, Salimans, Jozefowicz, Chen, Sutskever and Welling (2016), Improved variational inference with inverse
    autoregressive flow, algorithm 1.
    """

    num_transforms = 2

    def layer(self, index: int, num_features: int, size: int, hidden_dims: tuple[int, ...]) -> nn.Module:
        """An autoregressive layer; odd ones take the coordinates in reverse order."""
        return GatedAutoregression(index % 2 == 1, num_features, size, hidden_dims)


class GatedAutoregression(nn.Module):
    """y_i = g_i x_i + (1 - g_i) m_i, the gate g_i and m_i functions of x_1, ..., x_(i-1) and of the features.

    Args:
        backwards: Whether the last coordinate comes first.
        num_features: Length of the feature vectors.
        size: Number of coordinates, at least two.
        hidden_dims: Widths of the network's hidden layers.
    """

    def __init__(self, backwards: bool, num_features: int, size: int, hidden_dims: tuple[int, ...]):
        super().__init__()
        self.size = size
        self.network = MaskedNetwork(backwards, num_features, size, hidden_dims)

    def call_and_ladj(self, x: torch.Tensor, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The image and the log Jacobian determinant."""
        gate, mean = self.network(x, features)
        return mean + gate.sigmoid() * (x - mean), functional.logsigmoid(gate).sum(-1)

    def inv(self, y: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """The point whose image this is: each pass makes one more coordinate right."""
        x = torch.zeros_like(y)
        for _ in range(self.size):
            gate, mean = self.network(x, features)
            x = mean + (y - mean) / gate.sigmoid()
        return x


class MaskedNetwork(nn.Module):
    """A network whose outputs for a coordinate see the features and the coordinates before it alone.

    Hidden units have degrees in turn 1, ..., size - 1: a unit of degree d sees coordinates up to d, and only
    coordinates beyond d see it (Germain et al. 2015, MADE: masked autoencoder for distribution estimation). The
    features reach the first hidden layer and the outputs.

    Args:
        backwards: Whether the last coordinate comes first.
        num_features: Length of the feature vectors.
        size: Number of coordinates, at least two.
        hidden_dims: Widths of the hidden layers.
    """

    def __init__(self, backwards: bool, num_features: int, size: int, hidden_dims: tuple[int, ...]):
        super().__init__()
        numbers = torch.arange(1, size + 1)
        degrees = [numbers.flip(0) if backwards else numbers]
        degrees += [torch.arange(max(width, size - 1)) % (size - 1) + 1 for width in hidden_dims]
        self.context = nn.Linear(num_features, len(degrees[1]), bias=False) if hidden_dims else None
        self.direct = nn.Linear(num_features, 2 * size, bias=False)
        self.layers = nn.ModuleList(MaskedLinear(after[:, None] >= before) for before, after in pairwise(degrees))
        self.last = MaskedLinear((degrees[0][:, None] > degrees[-1]).repeat(2, 1))
        with torch.no_grad():
            for weight in (self.last.weight, self.direct.weight):
                weight.mul_(NEARLY_NOTHING)
            self.last.bias[:size] = FORGET

    def forward(self, x: torch.Tensor, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logit of the gate, and mean, shape (..., size) each."""
        hidden = x
        for index, layer in enumerate(self.layers):
            seen = layer(hidden)
            if index == 0 and self.context is not None:
                seen = seen + self.context(features)
            hidden = functional.elu(seen)
        gate, mean = (self.last(hidden) + self.direct(features)).chunk(2, -1)
        return gate, mean


class MaskedLinear(nn.Linear):
    """A linear layer of which some weights are held at zero.

    Args:
        mask: Which weights are free, shape (output, input).
    """

    mask: torch.Tensor

    def __init__(self, mask: torch.Tensor):
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask, persistent=False)
        nn.init.zeros_(self.bias)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Vectors (..., input) to vectors (..., output)."""
        return functional.linear(input, torch.where(self.mask, self.weight, 0.0), self.bias)
