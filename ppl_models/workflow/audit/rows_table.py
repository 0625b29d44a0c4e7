"""The table of an audit: one row per datum."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ppl_models.diagnostics import khat_by_datum
from ppl_models.diagnostics.khat import relative_ess
from ppl_models.workflow.audit.gaps import bounds_by_row
from ppl_models.workflow.audit.posterior_audit import Array, Estimates, PosteriorAudit

COLUMNS = (
    "elbo",
    "best_elbo",
    "log_evidence",
    "lower",
    "upper",
    "amortisation_gap",
    "approximation_gap",
    "inference_gap",
)


def full_table(found: PosteriorAudit, labels: Sequence[object]) -> pd.DataFrame:
    """Every figure of each row with its standard error, nats: bounds, gaps, k-hat and what MCMC says."""
    columns: dict[str, np.ndarray] = {}
    for name in COLUMNS:
        columns |= _pair(name, getattr(found, name))
    for size, bound in sorted(found.bounds.items()):
        columns |= _pair(f"L_{size}", bound)
    moments = found.moments
    columns |= {
        "khat": found.khat,
        "relative_ess": found.relative_ess,
        "mean_error_sd": _largest(moments.mean_error_sd),
        "log_sd_ratio": _largest(moments.log_sd_ratio),
        "rhat": found.rhat,
        "ess": found.ess,
        "divergences": found.divergences,
        "reliable": found.reliable,
    }
    return pd.DataFrame(columns, index=pd.Index(labels, name="row"))


def weights_table(log_weights: Array, sizes: Sequence[int], labels: Sequence[object]) -> pd.DataFrame:
    """What draws of q(z | x) alone say of each row: bounds from below and k-hat; all else is not there."""
    bounds = bounds_by_row(log_weights, sizes)
    columns = _pair("elbo", bounds[1])
    for size, bound in sorted(bounds.items()):
        columns |= _pair(f"L_{size}", bound)
    columns |= {"khat": khat_by_datum(log_weights), "relative_ess": relative_ess(log_weights)}
    return pd.DataFrame(columns, index=pd.Index(labels, name="row"))


def _pair(name: str, found: Estimates) -> dict[str, np.ndarray]:
    return {name: found.value, f"{name}_se": found.error}


def _largest(values: Array) -> Array:
    """Of each row the entry that is largest in size, with its sign."""
    place = np.nanargmax(np.abs(np.where(np.isnan(values), 0.0, values)), axis=1)
    return values[np.arange(len(values)), place]
