"""`ppl.loo`: how well would each observation have been predicted from the others?"""

import html
import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from arviz_stats import ess

from ppl_models.diagnostics import Check, check_finite
from ppl_models.diagnostics.leave_one_out import Pointwise, check_loo_khat, leave_one_out
from ppl_models.diagnostics.loo_pit import LOO_PIT, PIT_LIMIT, check_loo_pit, loo_pit
from ppl_models.errors import DataError, OptionError
from ppl_models.inference import Fit
from ppl_models.options import check_count
from ppl_models.seeds import check_seed, child_seed
from ppl_models.workflow.predictions import check_size

NUM_ROWS = 5


@dataclass(frozen=True, eq=False)
class LeaveOneOut:
    """Leave-one-out cross-validation.

    Attributes:
        elpd: sum over observations of the log predictive density given the others, in nats.
        se: its standard error as an estimate for other data of the same size.
        mcse: its Monte Carlo standard error; holds where every k-hat is within its limit.
        p_loo: effective number of parameters.
        table: one row per observation: `elpd`, `p_loo`, `khat` and `pit` (NaN where not measured).
        checks: `LOO k-hat` and `LOO-PIT`.
        num_draws: behind every figure.
        source: "guide", corrected by its importance weights, or "draws" as they are.
    """

    elpd: float
    se: float
    mcse: float
    p_loo: float
    table: pd.DataFrame
    checks: tuple[Check, ...]
    num_draws: int
    source: str

    def _title(self) -> str:
        how = "of the guide, importance-weighted" if self.source == "guide" else "taken as they are"
        return (
            f"elpd {self.elpd:,.2f} nats (se {self.se:.2f}, Monte Carlo {self.mcse:.2g}), p_loo {self.p_loo:.2f}, "
            f"{len(self.table):,} observations, {self.num_draws:,} draws {how}"
        )

    def worst(self, num_rows: int = NUM_ROWS) -> pd.DataFrame:
        """The observations that are predicted worst."""
        return self.table.nsmallest(num_rows, "elpd")

    def __str__(self) -> str:
        rows = self.worst().to_string(float_format=lambda value: f"{value:.3f}")
        return "\n".join([f"LeaveOneOut: {self._title()}", *map(str, self.checks), "predicted worst:", rows])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        said = "".join(f"<p>{html.escape(str(check))}</p>" for check in self.checks)
        rows = self.worst().to_html(escape=True, float_format=lambda value: f"{value:.3f}")
        return f"<div><h4>LeaveOneOut: {html.escape(self._title())}</h4>{said}{rows}</div>"


def loo(fit: Fit | xr.DataTree, *, num_draws: int = 4_000, seed: int = 0, pit: bool = True) -> LeaveOneOut:
    """Leave out each observation in turn, without refits, by Pareto smoothed importance sampling.

    An observation is one term of the model's likelihood; those that the model masks do not count. Where each
    observation has a latent of its own, leaving it out changes that latent's posterior too much for importance weights:
    the check `LOO k-hat` says so.

    Args:
        fit: what `ppl.fit` returned; or a tree of draws of the posterior itself, as
            `ppl.sample(..., include=("log_likelihood", "posterior_predictive"))` returns.
        num_draws: draws of the guide; of no account for a tree.
        seed: of these draws, and of the uniform numbers that LOO-PIT needs.
        pit: whether to compute LOO-PIT; it needs replicated data.

    Returns:
        The figures with their checks. Draws of a guide are weighted by log p - log q; guides without a density
        (particles) are taken as they are.

    Raises:
        OptionError: an option is out of its range, or the fit is a point.
        DataError: the tree has no posterior or no log likelihood.
        ModelError: the model sums out discrete sites, so that its observations have no separate terms.

    Vehtari, Gelman and Gabry (2017), Statistics and Computing 27(5); Magnusson et al. (2019), ICML.
    """
    check_seed(seed)
    if isinstance(fit, xr.DataTree):
        tree, log_ratio, efficiency = fit, None, _efficiency(fit)
    elif isinstance(fit, Fit):
        tree, log_ratio = _drawn(fit, check_count("num_draws", num_draws, least=1_000), seed, pit)
        efficiency = 1.0
    else:
        raise OptionError(f"fit: found {type(fit).__name__}, wanted the result of ppl.fit, or of ppl.sample.")
    labels, densities, places = _observations(tree)
    found = leave_one_out(densities, log_ratio, relative_efficiency=efficiency)
    values, pit_check = _pit(tree, found, places, child_seed(seed, "pit")) if pit else (math.nan, None)
    khat = check_loo_khat(
        found.khat, labels, len(densities), guide_khat=found.guide_khat, relative_efficiency=efficiency
    )
    table = pd.DataFrame({"elpd": found.elpd, "p_loo": found.p_loo, "khat": found.khat, "pit": values}, index=labels)
    return LeaveOneOut(
        elpd=float(found.elpd.sum()),
        se=found.standard_error,
        mcse=found.mcse,
        p_loo=float(found.p_loo.sum()),
        table=table,
        checks=(khat, pit_check) if pit_check is not None else (khat,),
        num_draws=len(densities),
        source="draws" if log_ratio is None else "guide",
    )


def _drawn(fit: Fit, num_draws: int, seed: int, pit: bool) -> tuple[xr.DataTree, np.ndarray | None]:
    if fit.point:
        raise OptionError("fit: it is a point estimate, and leaving an observation out moves a posterior. Fit a guide.")
    check_size(fit, num_draws)
    groups = ("log_likelihood", "posterior_predictive") if pit else ("log_likelihood",)
    tree = fit.sample(num_draws, seed=seed, include=groups)
    if not check_finite(tree["posterior"].to_dataset()).passed:
        raise DataError("fit: some of its draws are NaN or infinite, needs finite ones. ppl.check names them.")
    stats = tree["sample_stats"].to_dataset()
    return tree, (stats["log_p"] - stats["log_q"]).to_numpy().reshape(-1) if fit.has_density else None


def _efficiency(tree: xr.DataTree) -> float:
    """Effective draws of each draw of Markov chains, the mean over parameters that vary."""
    missing = [group for group in ("posterior", "log_likelihood") if group not in tree.children]
    if missing:
        raise DataError(
            f"fit: the tree has no group '{missing[0]}', wanted posterior and log_likelihood. Sample with "
            'include=("log_likelihood", "posterior_predictive").'
        )
    found = ess(tree["posterior"].to_dataset(), sample_dims=["chain", "draw"], method="mean")
    sizes = np.concatenate([np.ravel(found[name].to_numpy()) for name in found.data_vars])
    num_draws = tree["posterior"].sizes["chain"] * tree["posterior"].sizes["draw"]
    share = float(np.mean(sizes[np.isfinite(sizes)])) / num_draws if np.isfinite(sizes).any() else 1.0
    return min(1.0, share)


def _observations(tree: xr.DataTree) -> tuple[list[str], np.ndarray, dict[str, np.ndarray]]:
    """Names, log densities of shape (draw, observation), and which of each site's terms the model does not mask."""
    labels: list[str] = []
    blocks, places = [], {}
    for site, array in tree["log_likelihood"].to_dataset().data_vars.items():
        array = array.transpose("chain", "draw", ...)
        flat = array.to_numpy().astype(float).reshape(array.sizes["chain"] * array.sizes["draw"], -1)
        keep = np.flatnonzero((flat != 0.0).any(axis=0))
        axes = [array[dim].to_numpy().tolist() for dim in array.dims[2:]]
        names = [f"{site}[{', '.join(map(str, index))}]" if index else str(site) for index in itertools.product(*axes)]
        labels += [names[i] for i in keep]
        blocks.append(flat[:, keep])
        places[str(site)] = keep
    if not labels:
        raise DataError("log_likelihood: no observation has a term, needs at least one.")
    return labels, np.concatenate(blocks, axis=1), places


def _pit(
    tree: xr.DataTree, found: Pointwise, places: dict[str, np.ndarray], seed: int
) -> tuple[np.ndarray | float, Check]:
    """LOO-PIT of every observation that is one number, and the check on all of them."""
    missing = [group for group in ("posterior_predictive", "observed_data") if group not in tree.children]
    if missing:
        detail = f"not measured: the draws have no group '{missing[0]}'"
        return math.nan, Check(LOO_PIT, math.nan, PIT_LIMIT, None, "sample with include=", detail=detail)
    parts: list[np.ndarray] = []
    start = 0
    for number, (site, keep) in enumerate(places.items()):
        weights = found.log_weights[:, start : start + len(keep)]
        start += len(keep)
        parts.append(_pit_of_site(tree, site, keep, weights, seed + number))
    values = np.concatenate(parts)
    measured = values[~np.isnan(values)]
    return values, check_loo_pit(measured, seed=seed)


def _pit_of_site(tree: xr.DataTree, site: str, keep: np.ndarray, weights: np.ndarray, seed: int) -> np.ndarray:
    groups: list[Any] = [
        tree[group].to_dataset() for group in ("log_likelihood", "posterior_predictive", "observed_data")
    ]
    if any(site not in group for group in groups):
        return np.full(len(keep), math.nan)
    terms, replicated, observed = (group[site].to_numpy() for group in groups)
    if replicated.shape != terms.shape or observed.shape != terms.shape[2:]:
        return np.full(len(keep), math.nan)  # a vector is one observation, and has no rank
    replicated = replicated.reshape(len(weights), -1)[:, keep]
    return loo_pit(observed.reshape(-1)[keep], replicated, weights, seed=seed)
