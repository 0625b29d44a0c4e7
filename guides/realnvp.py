"""A normal pushed through affine coupling layers."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from pyro.infer.autoguide import AutoGuide

from guides.enumeration import hide_enumerated
from guides.family import Family, Model, require_positive_integer
from guides.zuko_flow import HIDDEN_DIMS, AutoZukoFlow, require_widths


class AutoRealNVP(AutoZukoFlow):
    """A normal pushed through zuko's RealNVP: each layer scales and shifts half of the coordinates by the other half.

    One latent scalar has no other half: there the family is exactly the normal.

    Dinh et al. (2017), Density estimation using Real NVP.
    """


def _flow(num_transforms: int, hidden_dims: Sequence[int], dim: int) -> torch.nn.Module | None:
    import zuko

    if dim == 1:
        return None
    flow = zuko.flows.RealNVP(
        dim, transforms=num_transforms, hidden_features=tuple(hidden_dims), activation=torch.nn.Tanh
    )
    return flow.transform


def _build(
    model: Model,
    init_loc_fn: Any,
    init_scale: float,
    num_transforms: int = 4,
    hidden_dims: Sequence[int] = HIDDEN_DIMS,
) -> AutoGuide:
    require_positive_integer("num_transforms", num_transforms)
    require_widths(hidden_dims)
    return AutoRealNVP(
        hide_enumerated(model),
        init_loc_fn=init_loc_fn,
        init_scale=init_scale,
        make_flow=partial(_flow, num_transforms, hidden_dims),
    )


REALNVP = Family(
    name="realnvp",
    summary="A normal pushed through affine coupling layers in the unconstrained space; bends, and is cheap both ways.",
    cite="Dinh et al. (2017), Density estimation using Real NVP",
    build=_build,
    options={
        "num_transforms": "default 4: number of coupling layers",
        "hidden_dims": "default (32, 32): widths of the hidden layers of each",
    },
)
