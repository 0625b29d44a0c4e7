"""Everything that can be said about one guide's fit, with a baseline or without one."""

import math
import warnings
from collections.abc import Sequence
from typing import Any

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
    check_joint,
    check_joint_with_psis,
    check_khat,
    check_method,
    check_spread,
    check_stationarity,
    check_status,
    compare,
    compare_with_psis,
    decide,
    gates_passed,
    khat_limit,
    psis_weights,
    unmeasured_table,
)
from ppl_models.diagnostics.labelled import labelled_draws
from ppl_models.errors import BaselineWarning, DataError
from ppl_models.inference import Fit
from ppl_models.inference.course import CONVERGED, tolerance_of
from ppl_models.inference.methods import SVI
from ppl_models.program.sites import Site
from ppl_models.seeds import child_seed
from ppl_models.workflow.baseline import failed_gates, tree_gates

SAME_DATA = 1e-5  # relative; single precision stores data so


def check_fit(fit: Fit, *, baseline: xr.DataTree | None, num_draws: int, seed: int, corrected: bool = False) -> Verdict:
    """Judge a fit; `ppl_models.check` documents the arguments.

    Args:
        fit: what was fitted.
        baseline: draws by MCMC; None for none.
        num_draws: draws of the guide.
        seed: of these draws.
        corrected: whether the fit's user gets its draws corrected by their importance weights: then those are judged.
    """
    tree = fit.sample(num_draws, seed=child_seed(seed, "check"))
    draws = tree["posterior"].to_dataset()
    soundness = _soundness(fit, draws)
    log_ratio = log_ratio_of(tree)
    khat = _khat(fit, log_ratio, soundness)
    reference, gates = None, ()
    if baseline is not None:
        draws, reference = shared_draws(fit, draws, tree, baseline)
        gates = tree_gates(baseline)
        if not gates_passed(gates):
            warnings.warn(
                f"the baseline fails its own gates ({failed_gates(gates)}) and is set aside.",
                BaselineWarning,
                stacklevel=2,
            )
    return decide(
        khat,
        **_compared(fit, draws, log_ratio, khat, soundness, reference, gates_passed(gates), corrected),
        gates=gates,
        soundness=() if fit.point else soundness,
        optimisation=(
            check_status(fit.status),
            check_optimum(fit),
        ),
        point_estimate=fit.point,
        note=fit.note,
        config={"guide": fit.guide_name, "num_draws": num_draws, "seed": seed, "fit": dict(fit.config)},
    )


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


def log_ratio_of(tree: xr.DataTree) -> np.ndarray:
    """Log p - log q in nats of a fit's draws, shape (draw,)."""
    stats = tree["sample_stats"].to_dataset()
    return (stats["log_p"] - stats["log_q"]).values.reshape(-1)


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
    if fit.has_density and all(check.passed for check in soundness):
        return check_khat(log_ratio)
    obstacle = "the draws are not finite"
    if fit.point or soundness[0].passed:
        obstacle = "a point has no density" if fit.point or fit.has_density else "particles have no density"
    return Check("k-hat", math.nan, khat_limit(len(log_ratio)), None, "", detail=obstacle)


def _compared(
    fit: Fit,
    draws: xr.Dataset,
    log_ratio: np.ndarray,
    khat: Check,
    soundness: Sequence[Check],
    reference: xr.Dataset | None,
    passed: bool,
    corrected: bool,
) -> dict[str, Any]:
    """The tables and joint checks that `decide` takes."""
    unmeasured = unmeasured_table(labelled_draws(draws).labels)
    if reference is not None and passed:
        if not soundness[0].passed:
            return {"baseline_table": unmeasured}
        if corrected:
            weights = psis_weights(log_ratio)[0]
            return {
                "baseline_table": compare(draws, reference, log_weights=weights),
                "joint": check_joint(draws, reference, log_weights=weights),
            }
        found = {"baseline_table": compare(draws, reference), "joint": check_joint(draws, reference)}
        if khat.passed:
            weights = psis_weights(log_ratio)[0]
            found["corrected_table"] = compare(draws, reference, log_weights=weights)
            found["corrected_joint"] = check_joint(draws, reference, log_weights=weights)
        return found
    # a baseline that is not used is there all the same, and is spoken of
    found = {} if reference is None else {"baseline_table": pd.DataFrame()}
    if khat.passed:
        return {
            **found,
            "psis_table": compare_with_psis(draws, log_ratio),
            "joint": check_joint_with_psis(draws, log_ratio),
        }
    return {**found, "psis_table": None if fit.point else unmeasured}


def shared_draws(
    fit: Fit, draws: xr.Dataset, tree: xr.DataTree, baseline: xr.DataTree
) -> tuple[xr.Dataset, xr.Dataset]:
    """Fit's and baseline's draws of what both hold, or a `DataError` that says why they cannot be compared."""
    if not isinstance(baseline, xr.DataTree) or "posterior" not in baseline.children:
        raise DataError(
            f"baseline: found {type(baseline).__name__} without a group 'posterior', wanted draws as from ppl.sample "
            "(ppl.to_datatree makes them from other samplers' output)."
        )
    if "guide" in baseline.attrs:
        raise DataError(
            f"baseline: found a fit's own draws (guide {baseline.attrs['guide']!r}), wanted draws by MCMC, "
            "as from ppl.sample: a fit cannot vouch for itself."
        )
    reference = baseline["posterior"].to_dataset()
    missing = [site.name for site in fit.program.sites.latent if site.name not in reference]
    if missing:
        raise DataError(
            f"baseline: it lacks '{missing[0]}', a latent of the fit; it has {', '.join(map(str, reference))}. "
            "Compare posteriors of the same model."
        )
    _check_same_data(tree, baseline)
    names = [name for name in draws.data_vars if name in reference]
    return draws[names], reference[names]


def _check_same_data(tree: xr.DataTree, baseline: xr.DataTree) -> None:
    if not all("observed_data" in group.children for group in (tree, baseline)):
        return
    ours, theirs = (group["observed_data"].to_dataset() for group in (tree, baseline))
    for name in set(ours.data_vars) & set(theirs.data_vars):
        found, wanted = theirs[name].to_numpy(), ours[name].to_numpy()
        if found.shape != wanted.shape or not all(array.dtype.kind in "fiub" for array in (found, wanted)):
            continue
        if not np.allclose(found.astype(float), wanted.astype(float), rtol=SAME_DATA, atol=0.0, equal_nan=True):
            raise DataError(
                f"baseline: its observed data {str(name)!r} have other values than the fit's, wanted the same data. "
                "Sample the baseline from the data of the fit."
            )
