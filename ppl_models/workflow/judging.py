"""`ppl.check`: everything that can be said about a fit, with a baseline or without one."""

import warnings

import numpy as np
import pandas as pd
import xarray as xr

from ppl_models.diagnostics import (
    Verdict,
    check_khat,
    check_stationarity,
    check_status,
    compare,
    compare_with_psis,
    decide,
    gates_passed,
    psis_weights,
)
from ppl_models.errors import BaselineWarning, DataError, OptionError
from ppl_models.inference import Fit
from ppl_models.options import check_count
from ppl_models.seeds import check_seed, child_seed
from ppl_models.workflow.baseline import failed_gates, tree_gates

MIN_DRAWS = 10_000


def check(fit: Fit, *, baseline: xr.DataTree | None = None, num_draws: int = MIN_DRAWS, seed: int = 0) -> Verdict:
    """Judge a fit.

    Args:
        fit: what `ppl.fit` returned.
        baseline: draws of the same posterior by MCMC, as from `ppl.sample`; None judges the fit by its own importance
            weights, which cannot see a mode that the guide missed.
        num_draws: draws of the guide to judge; at least 10,000.
        seed: seed of these draws.

    Returns:
        The verdict ("trust", "correct" or "reject") with its checks, its table of errors by scalar parameter, k-hat and
        the reasons in words.

    Raises:
        DataError: fit and baseline do not hold the same parameters.
        OptionError: an option is out of its range.

    Warns:
        BaselineWarning: the baseline fails its own gates, and is set aside.
    """
    if not isinstance(fit, Fit):
        raise OptionError(f"fit: found {type(fit).__name__}, wanted the result of ppl.fit.")
    tree = fit.sample(check_count("num_draws", num_draws, least=MIN_DRAWS), seed=child_seed(check_seed(seed), "check"))
    draws = tree["posterior"].to_dataset()
    log_ratio = log_ratio_of(tree)
    khat = check_khat(log_ratio)
    with_weights = khat.passed is not None and not fit.point
    baseline_table, corrected_table, gates = None, None, ()
    if baseline is not None:
        draws, reference = _shared(fit, draws, baseline)
        gates = tree_gates(baseline)
        if gates_passed(gates):
            baseline_table = compare(draws, reference)
            if khat.passed:
                corrected_table = compare(draws, reference, log_weights=psis_weights(log_ratio)[0])
        else:
            baseline_table = pd.DataFrame()  # there is one, and it is not used
            warnings.warn(
                f"the baseline fails its own gates ({failed_gates(gates)}) and is set aside.",
                BaselineWarning,
                stacklevel=2,
            )
    return decide(
        khat,
        baseline_table=baseline_table,
        gates=gates,
        psis_table=compare_with_psis(draws, log_ratio) if with_weights else None,
        corrected_table=corrected_table,
        optimisation=(
            check_status(fit.status),
            check_stationarity(fit.losses, start=fit.constant_phase[0], stop=fit.constant_phase[1]),
        ),
        point_estimate=fit.point,
        config={"guide": fit.guide_name, "num_draws": num_draws, "seed": seed, "fit": dict(fit.config)},
    )


def log_ratio_of(tree: xr.DataTree) -> np.ndarray:
    """Log p - log q in nats of a fit's draws, shape (draw,)."""
    stats = tree["sample_stats"].to_dataset()
    return (stats["log_p"] - stats["log_q"]).values.reshape(-1)


def _shared(fit: Fit, draws: xr.Dataset, baseline: xr.DataTree) -> tuple[xr.Dataset, xr.Dataset]:
    if not isinstance(baseline, xr.DataTree) or "posterior" not in baseline.children:
        raise DataError(
            f"baseline: found {type(baseline).__name__} without a group 'posterior', wanted draws as from ppl.sample "
            "(ppl.to_datatree makes them from other samplers' output)."
        )
    reference = baseline["posterior"].to_dataset()
    missing = [site.name for site in fit.program.sites.latent if site.name not in reference]
    if missing:
        raise DataError(
            f"baseline: it lacks '{missing[0]}', a latent of the fit; it has {', '.join(map(str, reference))}. "
            "Compare posteriors of the same model."
        )
    names = [name for name in draws.data_vars if name in reference]
    return draws[names], reference[names]
