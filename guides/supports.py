"""From unconstrained values to sites of a guide, on the supports that the model has at those very values."""

from collections.abc import Callable, Mapping
from typing import Any

import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions.util import sum_rightmost
from torch.distributions import Transform, biject_to
from torch.distributions.constraints import Constraint

from guides.plates import Walk


def fixed_support(support: Constraint) -> Constraint | None:
    """A support that is the same at every call; None where its bounds are tensors.

    Tensors may depend on other latents, on the data, or on a batch's rows, and only a run of the model tells.
    """
    return None if _has_tensors(support) else support


def _has_tensors(support: Constraint) -> bool:
    for part in vars(support).values():
        inner = part if isinstance(part, (list, tuple)) else [part]
        if any(isinstance(p, torch.Tensor) or (isinstance(p, Constraint) and _has_tensors(p)) for p in inner):
            return True
    return False


def transforms_at(
    model: Callable[..., Any],
    supports: Mapping[str, Constraint | None],
    unconstrained: Mapping[str, torch.Tensor],
    rows: Mapping[str, torch.Tensor | None],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> dict[str, Transform]:
    """The bijection onto each latent's support.

    Args:
        model: the model; it is run only where a support is not fixed.
        supports: fixed supports by latent, None for those to be found.
        unconstrained: unconstrained values of all latents.
        rows: the rows of each plate that holds latents, None for all.
        args: what the model is called with.
        kwargs: the same, by name.
    """
    found = dict(supports)
    moving = {name for name, support in supports.items() if support is None}
    if moving:
        known = {name: index for name, index in rows.items() if index is not None}
        walk = Walk(lambda name, _: unconstrained[name], known, until=moving).run(model, *args, **kwargs)
        found.update({name: walk.supports[name] for name in moving})
    return {name: biject_to(support) for name, support in found.items()}


def site_at(unconstrained: torch.Tensor, transform: Transform, event_dim: int) -> dist.Delta:
    """The distribution of a latent whose unconstrained value another site has drawn: its value, and minus log |J|."""
    value: Any = transform(unconstrained)
    if poutine.get_mask() is False:
        return dist.Delta(value, log_density=0.0, event_dim=event_dim)
    jacobian: Any = transform.log_abs_det_jacobian(unconstrained, value)
    own: Any = sum_rightmost(jacobian, jacobian.dim() - value.dim() + event_dim)
    return dist.Delta(value, log_density=-own, event_dim=event_dim)
