"""A fit beside importance-weighted draws, its own or a pool's, for want of a baseline."""

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from ppl_models.diagnostics.comparison import BLOCK, deviation_table, normalised_weights
from ppl_models.diagnostics.deviations import Sample, deviations, uniform, wasserstein_null, without_gaps
from ppl_models.diagnostics.khat import psis_weights
from ppl_models.diagnostics.labelled import finite_draws
from ppl_models.errors import DataError

Float64Array = NDArray[np.float64]


def compare_with_psis(draws: xr.Dataset, log_ratio: ArrayLike) -> pd.DataFrame:
    """Compare every marginal of a fit with itself after Pareto-smoothed importance sampling.

    It means something only where k-hat is within its limit, which the caller decides, and it cannot see a mode that
    the guide never visits.

    Args:
        draws: independent draws of the fit, dims (chain, draw, event...); at least 100.
        log_ratio: log p - log q in nats of the same draws, shape (draw,) over the stacked chains.

    Returns:
        The columns of `compare`, with the PSIS-weighted draws as the reference. The Monte Carlo errors are those of
        the difference of two estimates from the same draws (self-normalised importance sampling, delta method).
        Since both share their draws, `wasserstein_null_sd` takes 1/n1 + 1/n2 as the excess of the squared weights,
        1/ESS - 1/S with ESS = 1/sum w^2: zero where all weights are equal.

    Raises:
        DataError: NaN or infinite draws, fewer than 100, or log ratios of another shape, NaN or +inf.

    Yao, Vehtari, Simpson and Gelman (2018), Yes, but did it work? Evaluating variational inference, ICML.
    """
    fit = finite_draws(draws, what="draws")
    log_weights, _ = psis_weights(log_ratio)
    stacked = fit.values.reshape(-1, len(fit.labels))
    if log_weights.size != len(stacked):
        raise DataError(f"log_ratio: shape {log_weights.shape}, needs ({len(stacked)},), one per draw of all chains.")
    weights = np.exp(log_weights)
    blocks = []
    for start in range(0, len(fit.labels), BLOCK):
        values = np.ascontiguousarray(stacked[:, start : start + BLOCK].T)
        blocks.append(_compare_block(Sample(values, weights)))
    return pd.concat(blocks, ignore_index=True).set_index(pd.Index(fit.labels, name="parameter"))


def compare_with_pool(
    draws: xr.Dataset, values: Float64Array, pool_log_weights: ArrayLike, *, log_weights: ArrayLike | None = None
) -> pd.DataFrame:
    """Compare every marginal of a fit with weighted draws of a pool of proposals.

    Args:
        draws: independent draws of the fit, dims (chain, draw, event...); at least 100.
        values: the pool's draws of the same scalar parameters in the same order, shape (draw, parameter).
        pool_log_weights: of the pool's draws, shape (draw,).
        log_weights: log importance weights of the fit's draws, shape (draw,), which judge the corrected fit.

    Returns:
        The columns of `compare`. The Monte Carlo errors count both samples as independent; where the pool holds draws
        of the fit they are too large rather than too small.

    Raises:
        DataError: NaN or infinite draws, fewer than 100, or weights of another shape.
    """
    fit = finite_draws(draws, what="draws")
    stacked = fit.values.reshape(-1, len(fit.labels))
    weights = normalised_weights(pool_log_weights, len(values))
    own_weights = normalised_weights(log_weights, len(stacked))
    inverse_size = float((own_weights**2).sum() + (weights**2).sum())
    blocks = []
    for start in range(0, len(fit.labels), BLOCK):
        own, others = (np.ascontiguousarray(part[:, start : start + BLOCK].T) for part in (stacked, values))
        reference = Sample(others, weights)
        columns = deviations(Sample(own, own_weights), reference)
        errors = {
            name: np.sqrt((column.fit_terms**2).sum(axis=-1) + (column.reference_terms**2).sum(axis=-1))
            for name, column in columns.items()
        }
        errors = without_gaps(columns, errors, reference, np.full(len(own), inverse_size))
        # over the fit's distribution: far draws of a pool, of next to no weight, would make it large
        with np.errstate(divide="ignore", invalid="ignore"):
            relative = np.exp(columns["log_sd_ratio"].value)
        null = relative * wasserstein_null(uniform(own), np.full(len(own), inverse_size))
        blocks.append(deviation_table(columns, errors, null))
    return pd.concat(blocks, ignore_index=True).set_index(pd.Index(fit.labels, name="parameter"))


def _compare_block(reference: Sample) -> pd.DataFrame:
    columns = deviations(uniform(reference.values), reference)
    errors = {
        name: np.sqrt(((column.fit_terms + column.reference_terms) ** 2).sum(axis=-1))
        for name, column in columns.items()
    }
    num_parameters, num_draws = reference.values.shape
    excess = float(((reference.weights - 1.0 / num_draws) ** 2).sum())  # sum w^2 - 1/S without cancellation
    return deviation_table(columns, errors, wasserstein_null(reference, np.full(num_parameters, excess)))
