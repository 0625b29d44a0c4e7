"""A normal with a covariance that is diagonal plus low rank."""

from typing import Any

from pyro.infer import autoguide

from guides.enumeration import hide_enumerated
from guides.family import Family, Model, require_positive_integer


def _build(model: Model, init_loc_fn: Any, init_scale: float, rank: int | None = None) -> autoguide.AutoGuide:
    if rank is not None:
        require_positive_integer("rank", rank)
    return autoguide.AutoLowRankMultivariateNormal(
        hide_enumerated(model), init_loc_fn=init_loc_fn, init_scale=init_scale, rank=rank
    )


LOW_RANK = Family(
    name="low_rank",
    summary="A normal in the unconstrained space whose covariance is diagonal plus low rank.",
    cite="Ong, Nott and Smith (2018), Gaussian variational approximation with factor covariance structure",
    build=_build,
    options={"rank": "default None: the rounded square root of the number of unconstrained latents"},
)
