"""Guide of the mixture of two normals: a dense normal over its five unconstrained parameters.

The assignments are summed out by `TraceEnum_ELBO`, so that the guide has no site for them. What is left is a smooth
posterior of five parameters under 272 observations, close to normal in the coordinates log odds of the weights, first
mean and log gap, log scales (Bernstein and von Mises; Kucukelbir et al. 2017 for the normal in unconstrained
coordinates).
"""

import torch
from pyro.distributions import constraints

from guides.handwritten.parts import dense_normal, place


def guide(num_observations: int, y: torch.Tensor | None = None) -> None:
    """q(weights, means, scales), a dense normal in the unconstrained coordinates.

    Keeps the dependence that overlap makes: an observation between the components that changes sides moves the weight,
    both means and both scales at once. The means stay ordered, so that the labels cannot switch.

    Args:
        num_observations: How many waiting times there are; not read.
        y: Waiting times, ten minutes, shape (observation,); not read.
    """
    joint = dense_normal("parameters", [0.0, 6.0, 0.7, -0.5, -0.5])
    place("weights", joint[..., :1], constraints.simplex)
    place("means", joint[..., 1:3], constraints.ordered_vector)
    place("scales", joint[..., 3:], constraints.independent(constraints.positive, 1))
