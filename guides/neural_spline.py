"""A normal pushed through coupling layers of monotonic rational-quadratic splines."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from pyro.infer.autoguide import AutoGuide

from guides.enumeration import hide_enumerated
from guides.family import Family, Model, require_positive_integer
from guides.zuko_flow import HIDDEN_DIMS, AutoZukoFlow, require_widths

PASSES = 2
"""Coupling: half of the coordinates is free, the other half depends on it, and an inverse takes two passes."""


class AutoNeuralSpline(AutoZukoFlow):
    """A normal pushed through zuko's neural spline flow, whose splines bend [-5, 5] and leave the rest as it is.

    The box is one of standard deviations, since location and scale follow the flow: tails beyond are normal. One latent
    scalar gets splines with no networks.

    Durkan et al. (2019), Neural spline flows.
    """


def _flow(num_transforms: int, hidden_dims: Sequence[int], bins: int, dim: int) -> torch.nn.Module:
    import zuko

    flow = zuko.flows.NSF(
        dim,
        bins=bins,
        transforms=num_transforms,
        passes=PASSES,
        hidden_features=tuple(hidden_dims),
        activation=torch.nn.Tanh,
    )
    return flow.transform


def _build(
    model: Model,
    init_loc_fn: Any,
    init_scale: float,
    num_transforms: int = 2,
    hidden_dims: Sequence[int] = HIDDEN_DIMS,
    bins: int = 8,
) -> AutoGuide:
    require_positive_integer("num_transforms", num_transforms)
    require_positive_integer("bins", bins)
    require_widths(hidden_dims)
    return AutoNeuralSpline(
        hide_enumerated(model),
        init_loc_fn=init_loc_fn,
        init_scale=init_scale,
        make_flow=partial(_flow, num_transforms, hidden_dims, bins),
    )


NEURAL_SPLINE = Family(
    name="neural_spline",
    summary="A normal pushed through monotonic splines in the unconstrained space; bends, skews, and splits in two.",
    cite="Durkan et al. (2019), Neural spline flows",
    build=_build,
    options={
        "num_transforms": "default 2: number of coupling layers",
        "hidden_dims": "default (32, 32): widths of the hidden layers of each",
        "bins": "default 8: bins of each spline",
    },
)
