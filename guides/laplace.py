"""Laplace's approximation: the normal whose precision is the curvature of the log density at its mode."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceEnum_ELBO
from pyro.infer.autoguide import AutoGuide, AutoLaplaceApproximation, AutoMultivariateNormal
from pyro.ops.hessian import hessian

from guides.enumeration import hide_enumerated, is_enumerated
from guides.errors import LaplaceError
from guides.family import Family, Model


class AutoLaplace(AutoLaplaceApproximation):
    """A point in the unconstrained space, then the normal around it.

    Pyro's `AutoLaplaceApproximation` takes the Hessian of one draw of the enumerated sites, where they must be summed
    out, and fails with a message about a Cholesky factor where the point is no proper mode. This class sums, and says.

    Args:
        model: A Pyro model; its enumerated sites are summed out.
        init_loc_fn: Initial value of a site.
    """

    def __init__(self, model: Callable[..., Any], *, init_loc_fn: Callable[..., Any]):
        super().__init__(hide_enumerated(model), init_loc_fn=init_loc_fn)
        self._full_model = (model,)  # in a tuple, so that a module is not registered as a part of the guide

    def laplace_approximation(self, *args: Any, **kwargs: Any) -> AutoMultivariateNormal:
        """The normal with this point as its mean and the inverse Hessian of -log p there as its covariance.

        Raises:
            LaplaceError: If the Hessian is not positive definite.
        """
        precision = hessian(self._negative_log_density(*args, **kwargs), self.loc).detach()
        precision = 0.5 * (precision + precision.mT)
        curvature = (
            torch.linalg.eigvalsh(precision) if precision.isfinite().all() else precision.new_tensor([torch.nan])
        )
        if not curvature[0] > 0:
            raise LaplaceError(
                f"the Hessian of -log p at the point reached has smallest eigenvalue {float(curvature[0]):.3g}, wanted "
                "positive. Optimise longer, or take the family 'normal': there may be no mode (a funnel has none)."
            )
        covariance = torch.cholesky_inverse(torch.linalg.cholesky(precision))
        scale = covariance.diagonal().sqrt()
        fitted = {
            "loc": self.loc.detach().clone(),
            "scale": scale,
            "scale_tril": torch.linalg.cholesky(covariance / scale / scale[:, None]),
        }
        return self.fixed_normal(fitted, *args, **kwargs)

    def fixed_normal(self, values: Mapping[str, torch.Tensor], *args: Any, **kwargs: Any) -> AutoMultivariateNormal:
        """A normal of this guide's latents that has nothing to learn: `loc`, `scale` and `scale_tril` are given."""
        normal = AutoMultivariateNormal(self.model)
        normal._setup_prototype(*args, **kwargs)
        for name in ("loc", "scale", "scale_tril"):
            delattr(normal, name)
            normal.register_buffer(name, values[name].clone())
        return normal

    def _negative_log_density(self, *args: Any, **kwargs: Any) -> Any:
        """-log p at the point, in the unconstrained space, with its graph."""
        (model,) = self._full_model
        trace = poutine.block(poutine.trace(model).get_trace)(*args, **kwargs)
        if any(is_enumerated(site) for site in trace.nodes.values()):
            depths = [
                frame.dim for site in trace.nodes.values() for frame in site.get("cond_indep_stack", ()) if frame.dim
            ]
            return TraceEnum_ELBO(max_plate_nesting=-min(depths, default=0)).differentiable_loss(
                model, self, *args, **kwargs
            )
        return Trace_ELBO().differentiable_loss(model, self, *args, **kwargs)


def _build(model: Model, init_loc_fn: Any, init_scale: float) -> AutoGuide:
    return AutoLaplace(model, init_loc_fn=init_loc_fn)


def _finalize(guide: AutoLaplace, *args: Any, **kwargs: Any) -> AutoGuide:
    return guide.laplace_approximation(*args, **kwargs)


def _restore(guide: AutoLaplace, buffers: Mapping[str, Any], *args: Any, **kwargs: Any) -> AutoGuide:
    return guide.fixed_normal(buffers, *args, **kwargs)


LAPLACE = Family(
    name="laplace",
    summary="The normal whose mean is the mode and whose precision is the curvature there, unconstrained.",
    cite="Tierney and Kadane (1986), Accurate approximations for posterior moments and marginal densities",
    build=_build,
    finalize=_finalize,
    restore=_restore,
)
