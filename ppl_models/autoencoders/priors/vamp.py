"""A prior made of an encoder's posteriors at learnt inputs."""

import math
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import nn

from ppl_models.autoencoders.priors.prior import Prior
from ppl_models.errors import OptionError


class VampPrior(Prior):
    """p(z) = 1/K Σ_k q(z | u_k): the mean of the encoder's posteriors at K pseudo-inputs u, which are learnt.

    The posterior is the very module that the guide uses, so that prior and guide are learnt together; give it to the
    autoencoder too, whose `guide` then uses it:
    `VAE(decoder, latent_dim, prior=VampPrior(latent_dim, posterior, rows), posterior=posterior)`.
    An automatic guide shares them too: `guides.amortized(vae, encoder=encoder, family=head)` of the same two modules.

    Args:
        latent_dim: how many latents a row has.
        posterior: q(z | x): maps rows (..., num_features) to a Pyro distribution of event shape (latent_dim,), as
            `nn.Sequential(encoder, NormalHead(width, latent_dim))` does, with `guides.amortization.NormalHead`.
        pseudo_inputs: where the pseudo-inputs start, shape (K, num_features); rows of the data do well.

    Tomczak and Welling (2018), VAE with a VampPrior.
    """

    def __init__(self, latent_dim: int, posterior: nn.Module, pseudo_inputs: torch.Tensor):
        super().__init__(latent_dim)
        pseudo_inputs = torch.as_tensor(pseudo_inputs)
        if pseudo_inputs.dim() < 2 or not len(pseudo_inputs) or not pseudo_inputs.is_floating_point():
            raise OptionError(
                f"pseudo_inputs: found shape {tuple(pseudo_inputs.shape)} of {pseudo_inputs.dtype}, wanted rows of "
                "floats, (K, num_features) with K at least 1."
            )
        self.posterior = posterior
        self.pseudo_inputs = nn.Parameter(pseudo_inputs.detach().clone())

    def forward(self) -> "EqualMixture":
        """The mixture, event shape (latent_dim,)."""
        return EqualMixture(self.posterior(self.pseudo_inputs))


class EqualMixture(dist.TorchDistribution):
    """The mean of K distributions over real vectors.

    Args:
        components: a distribution of batch shape (K,) and event shape (dim,).
    """

    arg_constraints: Any = {}  # noqa: RUF012
    support: Any = constraints.real_vector

    def __init__(self, components: Any, batch_shape: Any = (), validate_args: bool | None = None):
        self.components = components
        super().__init__(torch.Size(batch_shape), components.event_shape, validate_args=validate_args)

    @property
    def num_components(self) -> int:
        """K."""
        return self.components.batch_shape[0]

    def expand(self, batch_shape: Any, _instance: Any = None) -> "EqualMixture":
        """The same mixture for each element of a batch; the components are kept once."""
        return EqualMixture(self.components, batch_shape, validate_args=False)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log density in nats, shape (*sample_shape, *batch_shape)."""
        each = self.components.log_prob(value.unsqueeze(-2))
        total = torch.logsumexp(each, -1) - math.log(self.num_components)
        return total.expand(torch.broadcast_shapes(total.shape, self.batch_shape))

    def sample(self, sample_shape: Any = ()) -> torch.Tensor:
        """Draws, shape (*sample_shape, *batch_shape, dim); without gradients."""
        shape = torch.Size(sample_shape) + self.batch_shape
        with torch.no_grad():
            every = self.components.sample(shape)
            chosen = torch.randint(self.num_components, shape, device=every.device)
            index = chosen[..., None, None].expand(*shape, 1, self.event_shape[0])
            return torch.gather(every, -2, index).squeeze(-2)

    @property
    def mean(self) -> torch.Tensor:
        """Mean, shape (*batch_shape, dim)."""
        return self.components.mean.mean(-2).expand(self.batch_shape + self.event_shape)

    @property
    def variance(self) -> torch.Tensor:
        """Variance of each coordinate, shape (*batch_shape, dim)."""
        within = self.components.variance.mean(-2)
        between = self.components.mean.var(-2, correction=0)
        return (within + between).expand(self.batch_shape + self.event_shape)
