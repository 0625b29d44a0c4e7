"""A guide of one flat vector whose distribution is given, and the distributions that faults are made of."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyro.distributions as dist
import torch
from pyro.infer.autoguide.guides import AutoContinuous
from pyro.infer.autoguide.initialization import init_to_value
from torch.distributions import constraints

from guides.enumeration import hide_enumerated
from ppl_models.program import Program, map_draws

Posterior = Callable[..., Any]
"""The model's arguments -> distribution over the flat unconstrained vector."""


class PlantedGuide(AutoContinuous):
    """A guide without parameters: its distribution is what it is given.

    Args:
        model: a Pyro model.
        posterior: gives the distribution, whenever the guide runs.
        start: latent -> a value in its support, from which the guide learns the latents' shapes.
    """

    def __init__(self, model: Callable[..., Any], posterior: Posterior, start: Mapping[str, torch.Tensor]):
        super().__init__(model, init_loc_fn=init_to_value(values=dict(start)))
        self._given = (posterior,)  # in a tuple: what it holds is no part of this guide

    def get_posterior(self, *args: Any, **kwargs: Any) -> Any:
        """The distribution over all latents, unconstrained and in one vector."""
        return self._given[0](*args, **kwargs)


def planted_guide(program: Program, posterior: Posterior, point: np.ndarray) -> PlantedGuide:
    """A guide of a program with that distribution; `point` (dim,) is a value of its flat vector."""
    arguments = program.arguments
    with program.isolated(seed=0), torch.no_grad():
        flat: Any = torch.as_tensor(point, dtype=program.dtype)[None]
        values = map_draws(program.constrain, 1, flat)
        latents = {site.name: values[site.name][0] for site in program.sites.latent}
        guide = PlantedGuide(hide_enumerated(program.model), posterior, latents)
        guide(*arguments.args, **arguments.kwargs)
    assert list(guide._unconstrained_shapes) == list(program.slices), "guide and program order latents alike"
    return guide


def normal(mean: np.ndarray, covariance: np.ndarray) -> Posterior:
    """A normal, whatever the arguments."""
    loc, tril = torch.as_tensor(mean), torch.as_tensor(np.linalg.cholesky(covariance))
    return lambda *args, **kwargs: dist.MultivariateNormal(loc, scale_tril=tril)


def moved(inner: Posterior, centre: np.ndarray, factor: float, shift: np.ndarray) -> Posterior:
    """The distribution drawn together by a factor around a centre, then shifted."""
    loc = torch.as_tensor(centre * (1.0 - factor) + shift)
    scale = torch.as_tensor(np.full(len(centre), factor))

    def posterior(*args: Any, **kwargs: Any) -> Any:
        step = dist.transforms.AffineTransform(loc, scale, event_dim=1)
        return dist.TransformedDistribution(inner(*args, **kwargs), [step])

    return posterior


def cut(mean: np.ndarray, covariance: np.ndarray, width: float) -> Posterior:
    """A normal of which each standardised coordinate is cut off beyond a number of sds."""
    loc, tril = torch.as_tensor(mean), torch.as_tensor(np.linalg.cholesky(covariance))

    def posterior(*args: Any, **kwargs: Any) -> Any:
        cube = CutNormal(len(loc), width, loc.dtype).to_event(1)
        return dist.TransformedDistribution(cube, [dist.transforms.LowerCholeskyAffine(loc, tril)])

    return posterior


class CutNormal(dist.TorchDistribution):
    """Standard normals cut off at plus and minus a width, shape (size,)."""

    arg_constraints: Any = {}  # noqa: RUF012 - as torch's distributions have it
    support: Any = constraints.real
    has_rsample = True

    def __init__(self, size: int, width: float, dtype: torch.dtype, validate_args: bool | None = None):
        self.width = torch.tensor(width, dtype=dtype)
        self.standard = torch.distributions.Normal(torch.zeros((), dtype=dtype), torch.ones((), dtype=dtype))
        super().__init__(torch.Size([size]), validate_args=False)

    @property
    def mass(self) -> torch.Tensor:
        """Probability that a standard normal lies within."""
        return torch.erf(self.width / 2**0.5)

    def rsample(self, sample_shape: Any = ()) -> torch.Tensor:
        """Draws by the inverse of the cumulative distribution."""
        uniform = torch.rand(self._extended_shape(torch.Size(sample_shape)), dtype=self.width.dtype)
        return self.standard.icdf(0.5 + self.mass * (uniform - 0.5)).clamp(-self.width, self.width)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log density in nats; minus infinity beyond the width."""
        inside = value.abs() <= self.width * (1.0 + 1e-9)
        return torch.where(inside, self.standard.log_prob(value) - self.mass.log(), -torch.inf)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "CutNormal":
        """The same, of another shape."""
        return CutNormal(torch.Size(batch_shape).numel(), float(self.width), self.width.dtype)
