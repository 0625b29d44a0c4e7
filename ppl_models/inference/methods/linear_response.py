"""Covariances of the posterior from how the means of independent normals answer a perturbation."""

import time
from dataclasses import replace

import numpy as np

from ppl_models.errors import OptionError
from ppl_models.inference.course import CONVERGED, DIVERGED, OUT_OF_TIME
from ppl_models.inference.methods.approximations import Normal
from ppl_models.inference.methods.mean_field import Curvature, MeanField
from ppl_models.inference.methods.mean_field_fit import DEFAULTS, OPTIONS, fit_mean_field
from ppl_models.inference.methods.method import Found, Method, Work

MOST_DIMS = 1_000
NOT_POSITIVE = (
    "the linear response is no covariance: the objective is not convex at its optimum. The scales are those of "
    "independent normals"
)


def run(work: Work) -> Found:
    """Fit independent normals, and give their means the covariance of the linear response.

    Where x ~ p(x) exp(t · x), the mean m(t) of the best independent normals moves by dm/dt = [H⁻¹] in the block of the
    means, H the objective's Hessian in means and log standard deviations: for a normal target, and antithetic draws,
    exactly its covariance.

    Raises:
        OptionError: more latents than a dense Hessian serves, or an option is out of its range.
    """
    dims = work.target.num_dims
    if dims > MOST_DIMS:
        raise OptionError(
            f"method: 'linear_response' solves for all pairs of latents, found {dims:,} latents, wanted at most "
            f"{MOST_DIMS:,}. Use method='dadvi'."
        )
    fit = fit_mean_field(work)
    mean_field = fit.found.approximation
    assert isinstance(mean_field, Normal)
    found = replace(fit.found, approximation=replace(mean_field, root=np.diag(mean_field.scale)))
    if fit.found.status != CONVERGED:
        return found
    if time.perf_counter() > work.deadline:
        return replace(found, status=OUT_OF_TIME, note="no time was left for the linear response")
    assert fit.objective is not None
    assert fit.curvature is not None
    root = _root(fit.objective, fit.curvature)
    if root is None:
        return replace(found, status=DIVERGED, note="; ".join(part for part in (found.note, NOT_POSITIVE) if part))
    normal = replace(mean_field, root=root)
    ratio = np.log(normal.scale / mean_field.scale)
    return replace(
        found, approximation=normal, evidence={**found.evidence, "log_sd_over_mean_field": float(ratio.max())}
    )


def _root(objective: MeanField, curvature: Curvature) -> np.ndarray | None:
    """A square root of the linear response covariance, shape (dim, dim); None where it is no covariance."""
    dim, hessian = objective.num_dims, curvature.dense
    of_mean, across, of_scale = hessian[:dim, :dim], hessian[:dim, dim:], hessian[dim:, dim:]
    try:
        factor = np.linalg.cholesky(of_scale)
        half = np.linalg.solve(factor, across.T)
        factor = np.linalg.cholesky(of_mean - half.T @ half)
    except np.linalg.LinAlgError:
        return None
    return objective.out(np.linalg.inv(factor)).T


LINEAR_RESPONSE = Method(
    name="linear_response",
    summary="The means of independent normals fitted on fixed draws, with the dense covariance by which these means "
    "answer a perturbation of the posterior.",
    cite="Giordano, Broderick and Jordan (2018), Covariances, robustness, and variational Bayes",
    families=("full_rank", "full_rank_student_t"),
    run=run,
    options=OPTIONS,
    defaults=DEFAULTS,
)
