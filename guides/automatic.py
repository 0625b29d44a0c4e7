"""Automatic families by the names that the field uses; each stands in a file of its own, with its paper and options.

`make("full_rank", model)` gives a Pyro AutoGuide. It hides enumerated sites from the guide, so that mixtures work with
`TraceEnum_ELBO`, and starts at the median of a few prior draws.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from pyro.infer import autoguide

from guides.dais import DAIS
from guides.delta import DELTA
from guides.errors import FamilyOptionError, UnknownFamilyError
from guides.family import Family, Model
from guides.full_rank import FULL_RANK
from guides.full_rank_student_t import FULL_RANK_STUDENT_T
from guides.hierarchical import HIERARCHICAL
from guides.initialization import init_to_prior_median
from guides.inverse_autoregressive import INVERSE_AUTOREGRESSIVE
from guides.laplace import LAPLACE
from guides.low_rank import LOW_RANK
from guides.mixture import MIXTURE
from guides.neural_spline import NEURAL_SPLINE
from guides.normal import NORMAL
from guides.particles import PARTICLES
from guides.realnvp import REALNVP
from guides.structured import STRUCTURED
from guides.student_t import STUDENT_T

FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        family.name: family
        for family in (
            DELTA,
            NORMAL,
            STUDENT_T,
            LOW_RANK,
            FULL_RANK,
            FULL_RANK_STUDENT_T,
            STRUCTURED,
            HIERARCHICAL,
            LAPLACE,
            MIXTURE,
            INVERSE_AUTOREGRESSIVE,
            REALNVP,
            NEURAL_SPLINE,
            DAIS,
            PARTICLES,
        )
    }
)


def names() -> tuple[str, ...]:
    """The names of the automatic families, simplest first."""
    return tuple(FAMILIES)


def make(
    name: str,
    model: Model,
    *,
    init_loc_fn: Callable[..., Any] | None = None,
    init_scale: float = 0.1,
    **options: Any,
) -> autoguide.AutoGuide:
    """An automatic guide of a family for a model.

    Args:
        name: The family's name, one of `names()`.
        model: A Pyro model. Latents that it marks for enumeration get no site in the guide.
        init_loc_fn: Initial constrained value of a site, as in `pyro.infer.autoguide.initialization`; None for the
            median of a few prior draws.
        init_scale: Initial scale of each unconstrained latent, positive. Point families have none, and ignore it.
        **options: Options of the family; `FAMILIES[name].options` says which.

    Returns:
        A guide whose parameters are made at its first call. `FAMILIES[name].finalize` may ask for a step after
        optimisation.

    Raises:
        UnknownFamilyError: If no family has that name.
        FamilyOptionError: If the family has no such option, or cannot use its value.
    """
    if name not in FAMILIES:
        raise UnknownFamilyError(name, FAMILIES)
    family = FAMILIES[name]
    for option in options:
        if option not in family.options:
            valid = ", ".join(family.options) or "none"
            raise FamilyOptionError(f"family {name!r} has no option {option!r}; its options: {valid}.")
    if not float(init_scale) > 0.0:
        raise FamilyOptionError(f"init_scale: {init_scale!r}, wanted a positive number.")
    return family.build(model, init_loc_fn or init_to_prior_median, float(init_scale), **options)
