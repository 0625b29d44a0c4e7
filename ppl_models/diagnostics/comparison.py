"""A fit beside a baseline: the error of every marginal, in baseline standard deviations."""

import numpy as np
import pandas as pd
import xarray as xr
from arviz_stats.base import array_stats
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from ppl_models.diagnostics.deviations import (
    COLUMNS,
    Deviation,
    Sample,
    deviations,
    uniform,
    wasserstein_null,
    without_gaps,
)
from ppl_models.diagnostics.labelled import aligned, finite_draws
from ppl_models.errors import DataError

BLOCK = 64  # parameters at a time, to bound the memory

Float64Array = NDArray[np.float64]


def compare(draws: xr.Dataset, baseline: xr.Dataset, *, log_weights: ArrayLike | None = None) -> pd.DataFrame:
    """Compare every marginal of a fit with that of a baseline.

    Args:
        draws: independent draws of the fit, dims (chain, draw, event...); at least 100.
        baseline: MCMC draws of the same variables, dims (chain, draw, event...); at least 100.
        log_weights: log importance weights of the fit's draws, shape (draw,) over the stacked chains; None for equal
            weights. The result then judges the corrected fit.

    Returns:
        One row per scalar parameter (`tau`, `theta[Choate]`), in baseline standard deviations: `mean_error_sd`,
        `log_sd_ratio` (log of fit sd over baseline sd), `q05_error_sd`, `q95_error_sd`, `wasserstein_sd` (1-D W1);
        for each its Monte Carlo standard error `<column>_mcse`, from the effective sample size of that very function
        over the baseline's chains and the number of draws (or the squared weights) of the fit; and
        `wasserstein_null_sd`, the distance expected between two exact samples of those sizes. A row is NaN where
        neither side varies; `log_sd_ratio` is +inf where only the baseline does not vary.

    Raises:
        DataError: the variables, shapes or labels differ; NaN or infinite draws; fewer than 100 draws; weights of
            another shape.

    Vehtari, Gelman, Simpson, Carpenter and Bürkner (2021), Rank-normalization, folding, and localization, Bayesian
    Analysis 16(2), for the effective sample size.
    """
    fit = finite_draws(aligned(draws, baseline), what="draws")
    truth = finite_draws(baseline, what="baseline")
    weights = normalised_weights(log_weights, fit.values.shape[0] * fit.values.shape[1])
    blocks = []
    for start in range(0, len(truth.labels), BLOCK):
        block = slice(start, start + BLOCK)
        sample = Sample(by_parameter(fit.values[..., block]), weights)
        blocks.append(_compare_block(sample, by_parameter(truth.values[..., block]), truth.values.shape[0]))
    return pd.concat(blocks, ignore_index=True).set_index(pd.Index(truth.labels, name="parameter"))


def deviation_table(columns: dict[str, Deviation], errors: dict[str, Float64Array], null: Float64Array) -> pd.DataFrame:
    """The columns of a comparison in their order, each followed by its Monte Carlo error."""
    table: dict[str, Float64Array] = {}
    for name in COLUMNS:
        table[name] = columns[name].value
        table[f"{name}_mcse"] = errors[name]
    table["wasserstein_null_sd"] = null
    return pd.DataFrame(table)


def _compare_block(fit: Sample, baseline: Float64Array, num_chains: int) -> pd.DataFrame:
    reference = uniform(baseline)
    columns = deviations(fit, reference)
    errors = {
        name: np.sqrt((column.fit_terms**2).sum(axis=-1) + chain_variance(column.reference_terms, num_chains))
        for name, column in columns.items()
    }
    inverse_size = (fit.weights**2).sum() + _inverse_size_of_distribution(baseline, num_chains)
    errors = without_gaps(columns, errors, reference, inverse_size)
    return deviation_table(columns, errors, wasserstein_null(reference, inverse_size))


def chain_variance(terms: Float64Array, num_chains: int) -> Float64Array:
    """Variance of the sum of correlated terms, shape (parameter, chain * draw)."""
    num_draws = terms.shape[-1]
    return (terms**2).sum(axis=-1) * num_draws / effective_size(terms * num_draws, num_chains)


def _inverse_size_of_distribution(values: Float64Array, num_chains: int) -> Float64Array:
    """1 / ESS of the empirical distribution function, averaged over three levels: tails mix faster than the mean."""
    levels = np.quantile(values, [0.1, 0.5, 0.9], axis=-1)
    sizes = [effective_size((values <= level[:, None]).astype(float), num_chains) for level in levels]
    return np.mean([1.0 / size for size in sizes], axis=0)


def effective_size(values: Float64Array, num_chains: int) -> Float64Array:
    """Effective number of draws for the mean of each row of values, shape (parameter, chain * draw)."""
    centred = values - values.mean(axis=-1, keepdims=True)
    scale = np.abs(centred).max(axis=-1, keepdims=True)
    scaled = centred / np.where(scale > 0, scale, 1.0)  # arviz takes draws of a tiny scale for constants
    chains = scaled.reshape(values.shape[0], num_chains, -1)
    return np.asarray(array_stats.ess(chains, chain_axis=-2, draw_axis=-1, method="mean"), dtype=float)


def by_parameter(values: Float64Array) -> Float64Array:
    """(chain, draw, parameter) to (parameter, chain * draw), contiguous."""
    return np.ascontiguousarray(values.reshape(-1, values.shape[-1]).T)


def normalised_weights(log_weights: ArrayLike | None, num_draws: int) -> Float64Array:
    """Weights that sum to one, shape (draw,); equal ones for None.

    Raises:
        DataError: another shape, NaN or +inf, or no weight at all.
    """
    if log_weights is None:
        return np.full(num_draws, 1.0 / num_draws)
    weights = np.asarray(log_weights, dtype=float)
    if weights.shape != (num_draws,):
        raise DataError(f"log_weights: shape {weights.shape}, needs ({num_draws},), one per draw of all chains.")
    if np.isnan(weights).any() or np.isposinf(weights).any() or np.isneginf(weights).all():
        raise DataError("log_weights: NaN, +inf, or -inf throughout; needs log weights of the draws. See psis_weights.")
    return np.exp(weights - logsumexp(weights))
