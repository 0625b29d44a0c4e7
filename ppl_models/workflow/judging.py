"""Everything that can be said about one guide's fit, with a baseline or without one."""

import math
import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
import xarray as xr
from torch.distributions import biject_to

from ppl_models.diagnostics import (
    Check,
    Verdict,
    check_arrival,
    check_finite,
    check_held_out,
    check_khat,
    check_method,
    check_spread,
    check_starts,
    check_stationarity,
    check_status,
    decide,
    gates_passed,
    khat_limit,
)
from ppl_models.errors import BaselineWarning
from ppl_models.inference import Fit
from ppl_models.inference.course import CONVERGED, tolerance_of
from ppl_models.inference.methods import SVI
from ppl_models.program.sites import Site
from ppl_models.workflow.alone import judged_alone
from ppl_models.workflow.baseline import failed_gates, tree_gates
from ppl_models.workflow.beside import judged_beside
from ppl_models.workflow.clock import Clock
from ppl_models.workflow.measuring import Measured
from ppl_models.workflow.sharing import shared_draws


def check_fit(fit: Fit, *, baseline: xr.DataTree | None, num_draws: int, seed: int, corrected: bool = False) -> Verdict:
    """Judge a fit; `ppl_models.check` documents the arguments.

    Args:
        fit: what was fitted.
        baseline: draws by MCMC; None for none.
        num_draws: draws of the guide.
        seed: of these draws.
        corrected: whether the fit's user gets its draws corrected by their importance weights: then those are judged.
    """
    clock = Clock()
    with clock.on("draws"):
        measured = Measured.of(fit, num_draws, seed)
        soundness = _soundness(fit, measured.draws)
    with clock.on("k-hat"):
        khat = _khat(fit, measured.log_ratio, soundness)
    reference, gates, found = None, (), {}
    if baseline is not None:
        draws, reference = shared_draws(fit, measured.draws, measured.tree, baseline)
        gates = tree_gates(baseline)
        if gates_passed(gates):
            found = judged_beside(
                draws, reference, measured.log_ratio, khat, soundness, clock, seed=seed, corrected=corrected
            )
        else:
            warnings.warn(
                f"the baseline fails its own gates ({failed_gates(gates)}) and is set aside.",
                BaselineWarning,
                stacklevel=2,
            )
    if not gates_passed(gates):
        found = judged_alone(measured, khat, soundness, clock, seed=seed, corrected=corrected)
        # a baseline that is not used is there all the same, and is spoken of
        found |= {} if reference is None else {"baseline_table": pd.DataFrame()}
    if len(fit.starts) > 1:
        found["elsewhere"] = (*found.get("elsewhere", ()), _starts(fit))
    return decide(
        khat,
        **found,
        gates=gates,
        soundness=() if fit.point else soundness,
        optimisation=(
            check_status(fit.status),
            check_optimum(fit),
        ),
        point_estimate=fit.point,
        note=fit.note,
        config={
            "guide": fit.guide_name,
            "num_draws": num_draws,
            "seed": seed,
            "fit": dict(fit.config),
        },
        seconds=clock.seconds,
    )


def _starts(fit: Fit) -> Check:
    starts = fit.starts
    return check_starts([one.away for one in starts], [one.status for one in starts], [one.elbo for one in starts])


def check_optimum(fit: Fit) -> Check:
    """Whether the optimisation had arrived: by its own account where it gave one, else by its losses."""
    if fit.method != SVI:
        return check_method(fit.status, **fit.evidence.get("arrival", {}))
    if fit.config.get("held_out"):
        return check_held_out(fit.status)
    last = fit.stages[-1] if fit.stages else None
    if fit.status == CONVERGED and last is not None and math.isfinite(last.gain) and math.isfinite(last.gap):
        return check_arrival(last.gain, last.error, last.gap, tolerance_of(fit.program.num_dims))
    return check_stationarity(
        fit.losses,
        start=fit.constant_phase[0],
        stop=fit.constant_phase[1],
        single_precision=fit.program.dtype == torch.float32,
    )


def _soundness(fit: Fit, draws: xr.Dataset) -> tuple[Check, ...]:
    finite = check_finite(draws)
    if not finite.passed:
        return (finite,)
    return finite, check_spread(
        xr.Dataset({site.name: _free(draws[site.name], site) for site in fit.program.sites.latent})
    )


def _free(array: xr.DataArray, site: Site) -> xr.DataArray:
    """The draws of a latent; unconstrained where its support may fix some elements, as a Cholesky factor's diagonal."""
    flat = array.transpose("chain", "draw", ...).to_numpy().astype(float)
    fixed = np.ptp(flat.reshape(-1, *flat.shape[2:]), axis=0) == 0
    if site.event_dim == 0 or fixed.all() or not fixed.any():
        return array
    free = biject_to(site.support).inv(torch.from_numpy(flat)).numpy()
    return xr.DataArray(free.reshape(*flat.shape[:2], -1), dims=("chain", "draw", f"{site.name}_free"))


def _khat(fit: Fit, log_ratio: np.ndarray, soundness: Sequence[Check]) -> Check:
    if fit.has_density and all(check.passed for check in soundness) and not fit.program.batched:
        return check_khat(log_ratio)
    if fit.program.batched:
        detail = "the data come in batches, and the density of one says nothing of the posterior given all"
        return Check("k-hat", math.nan, khat_limit(len(log_ratio)), None, "", detail=detail)
    obstacle = "the draws are not finite"
    if fit.point or soundness[0].passed:
        obstacle = "a point has no density" if fit.point or fit.has_density else "particles have no density"
    return Check("k-hat", math.nan, khat_limit(len(log_ratio)), None, "", detail=obstacle)
