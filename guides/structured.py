"""Pyro's structured guide with conditionals chosen site by site."""

from collections.abc import Callable
from typing import Any

from pyro.infer.autoguide import AutoGuide, AutoStructured
from pyro.infer.autoguide.initialization import InitMessenger

from guides.enumeration import hide_enumerated
from guides.family import CREATE_PLATES, Family, Model


class AutoPlateStructured(AutoStructured):
    """`AutoStructured`, where `conditionals="auto"` gives each site the conditional that its plates call for.

    Elements of a plate are independent given what they depend on, and the linear dependencies carry that: their
    conditional is "normal". A vector outside every plate (regression coefficients) has no such independence: its
    conditional is "mvn", up to `LARGEST_DENSE` elements, since its covariance holds that number squared.

    Hoffman and Blei (2015), Structured stochastic variational inference; Ambrogioni et al. (2021), Automatic structured
    variational inference.
    """

    LARGEST_DENSE = 256

    def __init__(self, model: Callable[..., Any], *, init_loc_fn: Callable[..., Any], **options: Any):
        super().__init__(model, init_loc_fn=init_loc_fn, **options)
        # the graph is found by running the model, and an improper prior has no draw to run it with
        self._original_model = (InitMessenger(init_loc_fn)(model),)

    def _auto_config(self, sample_sites: Any, args: Any, kwargs: Any) -> None:
        if self.conditionals == "auto":
            self.conditionals = {name: self._conditional(site) for name, site in sample_sites.items()}
        super()._auto_config(sample_sites, args, kwargs)

    def _conditional(self, site: Any) -> str:
        size = site["value"].numel()
        return "mvn" if not site["cond_indep_stack"] and 1 < size <= self.LARGEST_DENSE else "normal"


def _build(model: Model, init_loc_fn: Any, init_scale: float, conditionals: Any = "auto", **options: Any) -> AutoGuide:
    return AutoPlateStructured(
        hide_enumerated(model), conditionals=conditionals, init_loc_fn=init_loc_fn, init_scale=init_scale, **options
    )


STRUCTURED = Family(
    name="structured",
    summary="Normal sites in the unconstrained space that depend linearly on the sites they interact with.",
    cite="Hoffman and Blei (2015), Structured stochastic variational inference",
    build=_build,
    options={
        "conditionals": "default 'auto': 'mvn' for a vector outside plates, 'normal' elsewhere; or a type "
        "or a mapping from site to type, as in AutoStructured",
        "dependencies": "default 'linear', along the edges of the posterior's graph; or a mapping, as in "
        "AutoStructured",
        "create_plates": CREATE_PLATES,
    },
)
