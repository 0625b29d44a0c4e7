"""Automatic families by the names that the field uses, each with its paper and its options.

`make("full_rank", model)` gives a Pyro AutoGuide. It hides enumerated sites from the guide, so that mixtures work with
`TraceEnum_ELBO`, and starts at the median of a few prior draws.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from pyro.infer import autoguide

from guides.enumeration import hide_enumerated
from guides.errors import FamilyOptionError, UnknownFamilyError
from guides.full_rank import FullRank
from guides.initialization import init_to_prior_median
from guides.inverse_autoregressive import AutoInverseAutoregressive
from guides.laplace import AutoLaplace
from guides.structured import AutoPlateStructured

Model = Callable[..., Any]
CREATE_PLATES = "default None: function of the model's arguments that returns the plates to draw subsamples from"


@dataclass(frozen=True)
class Family:
    """An automatic variational family.

    Attributes:
        name: Its name.
        summary: What it assumes, in one sentence.
        cite: The paper that describes it.
        build: Function of the model, `init_loc_fn`, `init_scale` and the options that returns the guide.
        options: What each option means and its default.
        finalize: Function of the optimised guide and the model's arguments that returns the guide to use; None where
            the optimised guide is that guide.
        restore: Function of a guide as `build` gives it, the buffers by name of the guide that `finalize` gave, and the
            model's arguments; returns that finalized guide again. None where `finalize` is.
        point: Whether it is a point estimate: it has no spread, and no posterior variance may be read from it.
    """

    name: str
    summary: str
    cite: str
    build: Callable[..., autoguide.AutoGuide]
    options: Mapping[str, str] = field(default_factory=dict)
    finalize: Callable[..., autoguide.AutoGuide] | None = None
    restore: Callable[..., autoguide.AutoGuide] | None = None
    point: bool = False

    def __str__(self) -> str:
        options = "".join(f"\n  {name}: {text}" for name, text in self.options.items())
        return f"{self.name}: {self.summary} ({self.cite}){options}"


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


def _normal(model: Model, init_loc_fn: Any, init_scale: float, **options: Any) -> autoguide.AutoGuide:
    return autoguide.AutoNormal(hide_enumerated(model), init_loc_fn=init_loc_fn, init_scale=init_scale, **options)


def _full_rank(model: Model, init_loc_fn: Any, init_scale: float) -> autoguide.AutoGuide:
    return FullRank(hide_enumerated(model), init_loc_fn=init_loc_fn, init_scale=init_scale)


def _low_rank(model: Model, init_loc_fn: Any, init_scale: float, rank: int | None = None) -> autoguide.AutoGuide:
    if rank is not None:
        _require_positive_integer("rank", rank)
    return autoguide.AutoLowRankMultivariateNormal(
        hide_enumerated(model), init_loc_fn=init_loc_fn, init_scale=init_scale, rank=rank
    )


def _structured(
    model: Model, init_loc_fn: Any, init_scale: float, conditionals: Any = "auto", **options: Any
) -> autoguide.AutoGuide:
    return AutoPlateStructured(
        hide_enumerated(model), conditionals=conditionals, init_loc_fn=init_loc_fn, init_scale=init_scale, **options
    )


def _iaf(
    model: Model, init_loc_fn: Any, init_scale: float, num_transforms: int = 2, hidden_dims: Any = None
) -> autoguide.AutoGuide:
    _require_positive_integer("num_transforms", num_transforms)
    for width in hidden_dims or ():
        _require_positive_integer("hidden_dims", width)
    return AutoInverseAutoregressive(
        hide_enumerated(model),
        init_loc_fn=init_loc_fn,
        init_scale=init_scale,
        num_transforms=num_transforms,
        hidden_dims=hidden_dims,
    )


def _laplace(model: Model, init_loc_fn: Any, init_scale: float) -> autoguide.AutoGuide:
    return AutoLaplace(model, init_loc_fn=init_loc_fn)


def _finalize_laplace(guide: AutoLaplace, *args: Any, **kwargs: Any) -> autoguide.AutoGuide:
    return guide.laplace_approximation(*args, **kwargs)


def _restore_laplace(guide: AutoLaplace, buffers: Mapping[str, Any], *args: Any, **kwargs: Any) -> autoguide.AutoGuide:
    return guide.fixed_normal(buffers, *args, **kwargs)


def _delta(model: Model, init_loc_fn: Any, init_scale: float, **options: Any) -> autoguide.AutoGuide:
    return autoguide.AutoDelta(hide_enumerated(model), init_loc_fn=init_loc_fn, **options)


def _require_positive_integer(option: str, value: object) -> None:
    if not isinstance(value, int) or value < 1:
        raise FamilyOptionError(f"option {option!r}: {value!r}, wanted a positive integer.")


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        family.name: family
        for family in (
            Family(
                name="delta",
                summary="The mode of the posterior in the constrained space: a point, without uncertainty.",
                cite="Gelman et al. (2013), Bayesian Data Analysis, section 13.1",
                build=_delta,
                options={"create_plates": CREATE_PLATES},
                point=True,
            ),
            Family(
                name="normal",
                summary="Independent normals in the unconstrained space: no correlations, and too small scales.",
                cite="Kucukelbir et al. (2017), Automatic differentiation variational inference",
                build=_normal,
                options={"create_plates": CREATE_PLATES},
            ),
            Family(
                name="low_rank",
                summary="A normal in the unconstrained space whose covariance is diagonal plus low rank.",
                cite="Ong, Nott and Smith (2018), Gaussian variational approximation with factor covariance structure",
                build=_low_rank,
                options={"rank": "default None: the rounded square root of the number of unconstrained latents"},
            ),
            Family(
                name="full_rank",
                summary="A normal in the unconstrained space with a dense covariance.",
                cite="Kucukelbir et al. (2017), Automatic differentiation variational inference",
                build=_full_rank,
            ),
            Family(
                name="structured",
                summary="Normal sites in the unconstrained space that depend linearly on the sites they interact with.",
                cite="Hoffman and Blei (2015), Structured stochastic variational inference",
                build=_structured,
                options={
                    "conditionals": "default 'auto': 'mvn' for a vector outside plates, 'normal' elsewhere; or a type "
                    "or a mapping from site to type, as in AutoStructured",
                    "dependencies": "default 'linear', along the edges of the posterior's graph; or a mapping, as in "
                    "AutoStructured",
                    "create_plates": CREATE_PLATES,
                },
            ),
            Family(
                name="laplace",
                summary="The normal whose mean is the mode and whose precision is the curvature there, unconstrained.",
                cite="Tierney and Kadane (1986), Accurate approximations for posterior moments and marginal densities",
                build=_laplace,
                finalize=_finalize_laplace,
                restore=_restore_laplace,
            ),
            Family(
                name="iaf",
                summary="A normal pushed through inverse autoregressive flows in the unconstrained space; bends.",
                cite="Kingma et al. (2016), Improved variational inference with inverse autoregressive flow",
                build=_iaf,
                options={
                    "num_transforms": "default 2: number of flows",
                    "hidden_dims": "default None: one hidden layer, three times as wide as the latents are many",
                },
            ),
        )
    }
)
