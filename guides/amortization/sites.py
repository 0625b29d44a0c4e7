"""From the distribution of a row's vector to the site of a latent, in the shape that the model gives it."""

from typing import Any

import pyro.distributions as dist
import torch
from torch.distributions.transforms import ReshapeTransform

from guides.amortization.layout import Local
from guides.errors import FamilyOptionError


def arranged(q: Any, local: Local) -> Any:
    """The distribution of a latent's unconstrained value, given that of its vector.

    Args:
        q: batch shape (..., row, 1 for each axis to the right of the rows), event shape (size,).
        local: the latent.

    Raises:
        FamilyOptionError: a head of the user's gave a distribution of another shape.
    """
    found = tuple(getattr(q, "event_shape", ("no distribution",)))
    if found != (local.size,):
        raise FamilyOptionError(
            f"amortized: the head of latent '{local.name}' returned event shape {found}, wanted ({local.size},): one "
            "vector of unconstrained numbers per row. Call .to_event(1) on a batch of scalars."
        )
    if isinstance(q, dist.Independent) and isinstance(q.base_dist, dist.Normal):
        loc, scale = (_spread(part, local) for part in (q.base_dist.loc, q.base_dist.scale))
        return dist.Normal(loc, scale).to_event(len(local.shape))
    if len(local.shape) == 1:
        return q
    # the cache hands a remembered draw back as it was
    return dist.TransformedDistribution(q, [ReshapeTransform(torch.Size([local.size]), local.shape, cache_size=1)])


def _spread(part: torch.Tensor, local: Local) -> torch.Tensor:
    lead = part.shape[: part.dim() - 1 - len(local.batch)]
    return part.reshape(*lead, *local.batch, *local.shape)
