"""Parts that several hand-written guides share: a dense normal, a site that depends on it, a Burr distribution."""

from collections.abc import Sequence

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch.distributions import AffineTransform, ExpTransform, PowerTransform, biject_to


def dense_normal(name: str, initial_location: Sequence[float], initial_scale: float = 0.1) -> torch.Tensor:
    """A draw of an auxiliary normal vector with learned mean and dense covariance, in the default dtype.

    The Cholesky factor is a positive scale per row times a unit lower triangle, so that one step size suits rows of
    different scales (the parameterisation of Pyro's AutoMultivariateNormal).

    Args:
        name: Name of the auxiliary site; its parameters are `name_location`, `name_scale` and `name_triangle`.
        initial_location: Initial mean, one number per dimension.
        initial_scale: Initial standard deviation of every dimension.

    Returns:
        The draw, shape (..., dimension).
    """
    size = len(initial_location)
    location = pyro.param(f"{name}_location", lambda: torch.tensor(initial_location, dtype=torch.get_default_dtype()))
    scale = pyro.param(
        f"{name}_scale", lambda: torch.full((size,), initial_scale), constraint=constraints.softplus_positive
    )
    triangle = pyro.param(f"{name}_triangle", lambda: torch.eye(size), constraint=constraints.unit_lower_cholesky)
    normal = dist.MultivariateNormal(location, scale_tril=scale[:, None] * triangle)
    return pyro.sample(name, normal, infer={"is_auxiliary": True})


def place(
    name: str, unconstrained: torch.Tensor, constraint: constraints.Constraint = constraints.real
) -> torch.Tensor:
    """Sample a site as a transformed part of an auxiliary draw, with the change of variables in its density.

    Args:
        name: The model's site.
        unconstrained: The part of the auxiliary draw, shape of the site in the unconstrained space.
        constraint: The support of the site.

    Returns:
        The value of the site.
    """
    transform = biject_to(constraint)
    value = transform(unconstrained)
    log_density = -transform.log_abs_det_jacobian(unconstrained, value)
    return pyro.sample(name, dist.Delta(value, log_density=log_density, event_dim=constraint.event_dim))


def burr(name: str, scale: float, shape: float, decay: float) -> dist.TransformedDistribution:
    """A Burr type XII distribution on the positive numbers, with learned scale and shape (Singh and Maddala 1976).

    Its survival function is (1 + (x / scale)^shape)^-(decay / shape): its density goes like x^(shape - 1) near zero and
    like x^-(decay + 1) far out. A scale with a half-Cauchy prior has a posterior with such a tail; a log-normal's and a
    Weibull's are too light, which makes importance ratios heavy-tailed.

    Args:
        name: Prefix of its parameters, `name_scale` and `name_shape`.
        scale: Initial scale, in units of x.
        shape: Initial shape, unitless.
        decay: Exponent of the survival function's tail, known from the model; unitless.
    """
    learned = [
        pyro.param(f"{name}_{part}", lambda v=value: torch.tensor(v), constraint=constraints.softplus_positive)
        for part, value in (("scale", scale), ("shape", shape))
    ]
    # If E is exponential with this rate, (e^E - 1)^(1 / shape) is Burr with scale one.
    rate = decay / learned[1]
    transforms = [
        ExpTransform(),
        AffineTransform(-1.0, 1.0),
        PowerTransform(1.0 / learned[1]),
        AffineTransform(0.0, learned[0]),
    ]
    return dist.TransformedDistribution(dist.Exponential(rate), transforms)
