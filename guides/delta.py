"""A point: the mode of the posterior."""

from typing import Any

from pyro.infer import autoguide

from guides.enumeration import hide_enumerated
from guides.family import CREATE_PLATES, Family, Model


def _build(model: Model, init_loc_fn: Any, init_scale: float, **options: Any) -> autoguide.AutoGuide:
    return autoguide.AutoDelta(hide_enumerated(model), init_loc_fn=init_loc_fn, **options)


DELTA = Family(
    name="delta",
    summary="The mode of the posterior in the constrained space: a point, without uncertainty.",
    cite="Gelman et al. (2013), Bayesian Data Analysis, section 13.1",
    build=_build,
    options={"create_plates": CREATE_PLATES},
    point=True,
)
