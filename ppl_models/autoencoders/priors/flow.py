"""A prior that a normalising flow bends."""

from collections.abc import Sequence
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import nn

from guides.amortization.realnvp import Coupling
from ppl_models.autoencoders.priors.prior import Prior
from ppl_models.autoencoders.priors.standard_normal import StandardNormal
from ppl_models.options import check_count


class FlowPrior(Prior):
    """A standard normal pushed through affine coupling layers, near the identity at the start.

    The layers run from latents to noise, so that a density costs one pass through each network; so does a draw.

    Args:
        latent_dim: how many latents a row has, at least two: a layer moves half of them by the other half.
        num_transforms: number of layers; even ones move the even latents, odd ones the odd.
        hidden_dims: widths of the hidden layers of each layer's network.

    Dinh, Sohl-Dickstein and Bengio (2017), Density estimation using Real NVP; as a prior, Huang et al. (2017),
    Learnable explicit density for continuous latent space and variational inference.
    """

    def __init__(self, latent_dim: int, *, num_transforms: int = 4, hidden_dims: Sequence[int] = (64,)):
        super().__init__(check_count("latent_dim", latent_dim, least=2))
        count = check_count("num_transforms", num_transforms)
        widths = tuple(check_count("hidden_dims", width) for width in hidden_dims)
        self.noise = StandardNormal(latent_dim)
        self.layers = nn.ModuleList([Coupling(index % 2, 0, latent_dim, widths) for index in range(count)])

    def forward(self) -> "FlowDistribution":
        """The distribution, event shape (latent_dim,)."""
        return FlowDistribution(self.noise(), self.layers)


class FlowDistribution(dist.TorchDistribution):
    """Of z where layers carry z to noise of a known distribution.

    Args:
        noise: a distribution of batch shape () and event shape (dim,).
        layers: modules with `call_and_ladj(z, features)` and `inv(noise, features)`, here without features.
    """

    arg_constraints: Any = {}  # noqa: RUF012
    support: Any = constraints.real_vector
    has_rsample = True

    def __init__(self, noise: Any, layers: Any, batch_shape: Any = (), validate_args: bool | None = None):
        self.noise, self.layers = noise, layers
        super().__init__(torch.Size(batch_shape), noise.event_shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "FlowDistribution":
        """The same distribution for each element of a batch."""
        return FlowDistribution(self.noise, self.layers, batch_shape, validate_args=False)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log density in nats, shape (*sample_shape, *batch_shape)."""
        total = value.new_zeros(value.shape[:-1])
        for layer in self.layers:
            value, log_determinant = layer.call_and_ladj(value, value[..., :0])
            total = total + log_determinant
        total = total + self.noise.log_prob(value)
        return total.expand(torch.broadcast_shapes(total.shape, self.batch_shape))

    def rsample(self, sample_shape: Any = ()) -> torch.Tensor:
        """Reparameterised draws, shape (*sample_shape, *batch_shape, dim)."""
        value = self.noise.rsample(torch.Size(sample_shape) + self.batch_shape)
        for layer in reversed(self.layers):
            value = layer.inv(value, value[..., :0])
        return value
