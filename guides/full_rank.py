"""A multivariate normal guide whose density at its own draws costs no triangular solve."""

import math
from typing import Any

import pyro.distributions as dist
import torch
from pyro.infer.autoguide import AutoGuide, AutoMultivariateNormal

from guides.enumeration import hide_enumerated
from guides.family import Family, Model


class RememberedNormal(dist.MultivariateNormal):
    """A multivariate normal that remembers the noise of its latest draw.

    The density of x = loc + L e at x needs L⁻¹(x - loc), which is e. An ELBO evaluates it at just that draw, so the
    solve, and its gradient, can be left out; at every other value the density is computed as always.
    """

    _value: torch.Tensor | None = None
    _noise: torch.Tensor | None = None

    def rsample(self, sample_shape: Any = ()) -> torch.Tensor:
        """A reparameterised draw, shape (*sample_shape, *batch_shape, dim)."""
        shape = self._extended_shape(torch.Size(sample_shape))
        noise = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        value = self.loc + (self._unbroadcasted_scale_tril @ noise.unsqueeze(-1)).squeeze(-1)
        self._value, self._noise = value, noise
        return value

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log density in nats, shape (*sample_shape, *batch_shape)."""
        if value is not self._value or self._noise is None:
            return super().log_prob(value)
        dim = self.event_shape[0]
        log_scale = self._unbroadcasted_scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        normal = -0.5 * (self._noise.square().sum(-1) + dim * math.log(2.0 * math.pi))
        return normal - log_scale


class FullRank(AutoMultivariateNormal):
    """Pyro's `AutoMultivariateNormal`, with a posterior that remembers its draw."""

    def get_posterior(self, *args: Any, **kwargs: Any) -> RememberedNormal:
        """The multivariate normal over all latents, unconstrained and in one vector."""
        scale: Any = self.scale  # a PyroParam, which type checkers do not see through
        return RememberedNormal(self.loc, scale_tril=scale[..., None] * self.scale_tril)


def _build(model: Model, init_loc_fn: Any, init_scale: float) -> AutoGuide:
    return FullRank(hide_enumerated(model), init_loc_fn=init_loc_fn, init_scale=init_scale)


FULL_RANK = Family(
    name="full_rank",
    summary="A normal in the unconstrained space with a dense covariance.",
    cite="Kucukelbir et al. (2017), Automatic differentiation variational inference",
    build=_build,
)
