"""Draws to be shown: the guide's own, corrected, a baseline's, and those of whatever a verdict held them against."""

from dataclasses import dataclass, field

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ppl_models.diagnostics import Verdict, gates_passed, psis_weights, score_moments
from ppl_models.diagnostics.labelled import labelled_draws
from ppl_models.errors import DataError
from ppl_models.inference import Fit
from ppl_models.seeds import child_seed
from ppl_models.workflow.baseline import tree_gates
from ppl_models.workflow.measuring import Flat, Measured
from ppl_models.workflow.probing import pool_of

GUIDE, PSIS, BASELINE, POOL, SCORES = "guide", "psis", "baseline", "pool", "scores"
POOLED, ASKED = "pooled proposals", "normal by the gradients"

Float64Array = NDArray[np.float64]


@dataclass(frozen=True)
class Sample:
    """Equally weighted draws of scalar parameters, to be shown.

    Attributes:
        kind: "guide", "psis", "baseline", "pool" or "scores".
        name: for legends.
        labels: one per scalar parameter.
        values: draws, shape (draw, parameter).
        diverging: whether each draw diverged, shape (draw,); None where that has no meaning.
    """

    kind: str
    name: str
    labels: tuple[str, ...]
    values: Float64Array = field(repr=False)
    diverging: NDArray[np.bool_] | None = field(default=None, repr=False)

    def column(self, label: str) -> Float64Array:
        """The draws of one parameter, shape (draw,)."""
        return self.values[:, self.labels.index(label)]


def baseline_sample(tree: xr.DataTree) -> Sample:
    """Draws by MCMC, by whether they passed their gates."""
    draws = labelled_draws(tree["posterior"].to_dataset(), what="baseline")
    name = "MCMC" if gates_passed(tree_gates(tree)) else "MCMC, gates failed"
    return Sample(BASELINE, name, draws.labels, draws.values.reshape(-1, len(draws.labels)), _diverging(tree))


def psis_sample(own: Sample, log_ratio: Float64Array, verdict: Verdict) -> Sample | None:
    """The guide's draws, resampled by their smoothed importance weights; None where there are no weights."""
    try:
        log_weights, _ = psis_weights(log_ratio)
    except DataError:
        return None
    note = "" if khat_passed(verdict) else ", k-hat too large"
    return Sample(PSIS, f"after PSIS{note}", own.labels, own.values[_resampled(log_weights, len(log_ratio), verdict)])


def reference_sample(fit: Fit, verdict: Verdict, own: Sample) -> Sample | None:
    """What a verdict without a baseline held the draws against, where that is not their own weighted draws.

    Args:
        fit: what was judged.
        verdict: says against what, and with which seed.
        own: the guide's draws, whose number is drawn again.

    Returns:
        Of a pool: its draws, resampled by their weights. Of gradients: draws of the normal of the score-corrected mean
        and covariance in unconstrained space. None for other references, and where they cannot be drawn again.
    """
    count = len(own.values)
    if (pool := pool_of(fit, verdict)) is not None:
        return Sample(POOL, POOLED, own.labels, pool.values[_resampled(pool.log_weights, count, verdict)])
    if verdict.reference != SCORES:
        return None
    flat = Flat.of(Measured.of(fit, verdict.config.get("num_draws", count), _seed(verdict)))
    if isinstance(flat, str):
        return None
    found = score_moments(*flat.scores(), flat.labels)
    if found.why:
        return None
    rng = np.random.default_rng(child_seed(_seed(verdict), "report"))
    noise = rng.standard_normal((count, len(found.mean)))
    with np.errstate(all="ignore"):
        values = flat.scale.values(found.mean + noise @ np.linalg.cholesky(found.covariance).T)
    return Sample(SCORES, ASKED, own.labels, values) if np.isfinite(values).all() else None


def khat_passed(verdict: Verdict) -> bool:
    """Whether the importance weights can be used."""
    return any(check.name == "k-hat" and check.passed is True for check in verdict.checks)


def _resampled(log_weights: Float64Array, count: int, verdict: Verdict) -> NDArray[np.intp]:
    weights = np.exp(log_weights)
    rng = np.random.default_rng(child_seed(_seed(verdict), "report"))
    return rng.choice(len(weights), size=count, p=weights / weights.sum())


def _seed(verdict: Verdict) -> int:
    return verdict.config.get("seed", 0)


def _diverging(tree: xr.DataTree) -> NDArray[np.bool_] | None:
    if "sample_stats" not in tree.children or "diverging" not in tree["sample_stats"].to_dataset():
        return None
    return tree["sample_stats"].to_dataset()["diverging"].to_numpy().astype(bool).reshape(-1)
