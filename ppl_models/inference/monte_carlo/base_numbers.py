"""A distribution as a function of standard normal or of uniform numbers."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributions as dist

from ppl_models.inference.monte_carlo.inverse_cdf import quantile_of


@dataclass(frozen=True)
class Base:
    """Draws as a function of independent numbers.

    Attributes:
        num_numbers: that make one draw.
        function: of numbers, shape (draw, num_numbers), to draws, shape (draw, *batch, *event).
        normal: whether the numbers are standard normal; else uniform, float64.
    """

    num_numbers: int
    function: Callable[[torch.Tensor], torch.Tensor]
    normal: bool


def base_of(q: Any) -> Base | None:
    """The numbers behind a distribution; None where its draws are no known function of such.

    Normals are shifted and scaled, multivariate normals multiplied by their Cholesky factor; transformed distributions
    without an inverse cdf of their own go through their base, all others of one number through the inverse cdf.
    """
    if isinstance(q, dist.Independent):
        return base_of(q.base_dist)
    if isinstance(q, dist.Normal):
        return _of_shape(q.batch_shape, lambda normal: torch.addcmul(q.loc, q.scale, normal.to(q.loc)), normal=True)
    if isinstance(q, dist.MultivariateNormal):
        shape = q.batch_shape + q.event_shape
        factor = q.scale_tril  # looked up once: the distribution expands it at each look
        return _of_shape(shape, lambda normal: q.loc + _times(factor, normal), normal=True)
    if isinstance(q, dist.TransformedDistribution) and type(q).icdf is dist.TransformedDistribution.icdf:
        base = base_of(q.base_dist)
        return None if base is None else Base(base.num_numbers, _transformed(base.function, q.transforms), base.normal)
    quantile = quantile_of(q)
    return None if quantile is None else _of_shape(q.batch_shape, quantile, normal=False)


def _of_shape(shape: torch.Size, function: Callable[[torch.Tensor], torch.Tensor], *, normal: bool) -> Base:
    return Base(math.prod(shape), lambda numbers: function(numbers.reshape(-1, *shape)), normal)


def _times(factor: torch.Tensor, normal: torch.Tensor) -> torch.Tensor:
    return torch.einsum("...ij,n...j->n...i", factor.to(normal.dtype), normal)


def _transformed(
    function: Callable[[torch.Tensor], torch.Tensor], transforms: Any
) -> Callable[[torch.Tensor], torch.Tensor]:
    def transformed(numbers: torch.Tensor) -> torch.Tensor:
        draws = function(numbers)
        for transform in transforms:
            draws = transform(draws)
        return draws

    return transformed
