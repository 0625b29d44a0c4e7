"""Independent normals in the unconstrained space."""

from typing import Any

from pyro.infer import autoguide

from guides.enumeration import hide_enumerated
from guides.family import CREATE_PLATES, Family, Model


def _build(model: Model, init_loc_fn: Any, init_scale: float, **options: Any) -> autoguide.AutoGuide:
    return autoguide.AutoNormal(hide_enumerated(model), init_loc_fn=init_loc_fn, init_scale=init_scale, **options)


NORMAL = Family(
    name="normal",
    summary="Independent normals in the unconstrained space: no correlations, and too small scales.",
    cite="Kucukelbir et al. (2017), Automatic differentiation variational inference",
    build=_build,
    options={"create_plates": CREATE_PLATES},
)
