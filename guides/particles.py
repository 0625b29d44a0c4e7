"""Particles: points of the unconstrained space, of equal weight, of which each call draws one."""

import math
from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from pyro.infer.autoguide.guides import AutoContinuous, AutoGuide

from guides.enumeration import hide_enumerated
from guides.family import Family, Model, require_positive_integer

NUM_PARTICLES = 200


class EquallyLikely(dist.TorchDistribution):
    """One of a few points, each as likely as the others.

    A draw is differentiable in the point that it is. There is no density: `log_prob` gives the logarithm of the share
    of one point, whatever the value, so that an ELBO is the mean log density of the points plus a constant.

    Args:
        points: shape (num_particles, dim).
        batch_shape: of independent draws.
    """

    arg_constraints: Any = {"points": constraints.independent(constraints.real, 2)}  # noqa: RUF012
    support: Any = constraints.real_vector
    has_rsample = True

    def __init__(self, points: torch.Tensor, batch_shape: Any = (), validate_args: bool | None = None):
        self.points = points
        super().__init__(torch.Size(batch_shape), points.shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "EquallyLikely":
        """The same for another batch shape."""
        return EquallyLikely(self.points, batch_shape, validate_args=False)

    def rsample(self, sample_shape: Any = ()) -> torch.Tensor:
        """Points, shape (*sample_shape, *batch_shape, dim)."""
        count, shape = len(self.points), torch.Size(sample_shape) + self.batch_shape
        uniform = torch.rand(shape, dtype=self.points.dtype, device=self.points.device)
        return self.points[(uniform * count).long().clamp_max(count - 1)]

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """The log of one point's share, shape (*sample_shape, *batch_shape)."""
        return value.new_full(value.shape[:-1], -math.log(len(self.points)))


class AutoParticles(AutoContinuous):
    """Points in the unconstrained space that stand for the posterior, of equal weight.

    Its parameter `particles`, shape (num_particles, dim), holds them; latents stand in the order in which the model
    samples them, as in Pyro's own `AutoContinuous`. Each call takes one at random. Plain `SVI` with `Trace_ELBO` would
    move every one to a mode of the unconstrained density, since nothing keeps them apart: fit them by Stein variational
    gradient descent.

    Args:
        model: A Pyro model.
        init_loc_fn: Initial value of a site.
        init_scale: Standard deviation of the initial points around it, unconstrained.
        num_particles: Number of points.

    Liu and Wang (2016), Stein variational gradient descent.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        *,
        init_loc_fn: Callable[..., Any],
        init_scale: float = 0.1,
        num_particles: int = NUM_PARTICLES,
    ):
        super().__init__(model, init_loc_fn=init_loc_fn)
        self._init_scale, self._num_particles = init_scale, num_particles

    def _setup_prototype(self, *args: Any, **kwargs: Any) -> None:
        super()._setup_prototype(*args, **kwargs)
        center = self._init_loc()
        noise = torch.randn(self._num_particles, self.latent_dim, dtype=center.dtype, device=center.device)
        self.particles = torch.nn.Parameter(center + self._init_scale * noise)

    def get_posterior(self, *args: Any, **kwargs: Any) -> EquallyLikely:
        """The points, unconstrained, each as one vector."""
        return EquallyLikely(self.particles)


def _build(model: Model, init_loc_fn: Any, init_scale: float, num_particles: int = NUM_PARTICLES) -> AutoGuide:
    require_positive_integer("num_particles", num_particles)
    return AutoParticles(
        hide_enumerated(model), init_loc_fn=init_loc_fn, init_scale=init_scale, num_particles=num_particles
    )


PARTICLES = Family(
    name="particles",
    summary="Points of equal weight in the unconstrained space: any shape, but no density.",
    cite="Liu and Wang (2016), Stein variational gradient descent: a general purpose Bayesian inference algorithm",
    build=_build,
    options={"num_particles": f"default {NUM_PARTICLES}: number of points"},
    density=False,
)
