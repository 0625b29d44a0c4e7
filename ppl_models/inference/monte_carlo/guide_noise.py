"""A fitted normal guide as a function of standard normal numbers."""

from collections.abc import Callable
from typing import Any

import torch
from pyro.infer.autoguide import AutoNormal
from torch.distributions import Distribution, Independent, LowRankMultivariateNormal, MultivariateNormal, Normal

from ppl_models.inference.fit_result import Fit
from ppl_models.inference.flat_guide import FlatGuide

Map = Callable[[torch.Tensor], torch.Tensor]


def map_of_noise(fit: Fit) -> tuple[int, Map] | None:
    """How many standard normal numbers make one draw of a fit's guide, and what makes it of them.

    Args:
        fit: a fit with any guide.

    Returns:
        The number, and a function from noise, shape (draw, number), to flat unconstrained vectors of the program, shape
        (draw, dim); None where the guide is not known to be a normal in the unconstrained space.
    """
    if (
        isinstance(fit.guide, AutoNormal) and type(fit.guide) is AutoNormal
    ):  # guides derived from it draw from other families
        return _sitewise(fit, fit.guide)
    flat = FlatGuide.of(fit)
    if flat is None:
        return None
    with fit.program.isolated(seed=0), torch.no_grad():
        posterior = flat._posterior()
    made = _affine(posterior)
    if made is None:
        return None
    number, move = made
    return number, lambda noise: move(noise)[:, flat._places]


def _sitewise(fit: Fit, guide: AutoNormal) -> tuple[int, Map] | None:
    names = fit.program.slices
    with fit.program.isolated(seed=0), torch.no_grad():
        found: Any = [guide._get_loc_and_scale(name) for name in names]
    shapes = [shape for _, shape in names.values()]
    if any(loc.shape != shape for (loc, _), shape in zip(found, shapes, strict=True)):
        return None  # its local latents are those of a part of the data
    loc, scale = (torch.cat([pair[part].detach().reshape(-1) for pair in found]) for part in (0, 1))
    return len(loc), lambda noise: loc + scale * noise


def _affine(distribution: Distribution) -> tuple[int, Map] | None:
    """The same of a distribution over vectors."""
    if isinstance(distribution, LowRankMultivariateNormal):
        loc, factor = distribution.loc.detach(), distribution._unbroadcasted_cov_factor.detach()
        spread, rank = distribution._unbroadcasted_cov_diag.detach().sqrt(), factor.shape[-1]
        return rank + len(loc), lambda noise: loc + noise[:, :rank] @ factor.T + noise[:, rank:] * spread
    if isinstance(distribution, MultivariateNormal):
        loc, root = distribution.loc.detach(), distribution.scale_tril.detach()
        return len(loc), lambda noise: loc + noise @ root.T
    if isinstance(distribution, Independent) and isinstance(distribution.base_dist, Normal):
        loc, scale = distribution.base_dist.loc.detach(), distribution.base_dist.scale.detach()
        return len(loc), lambda noise: loc + scale * noise
    return None
