"""A fit beside its own importance-weighted draws, for want of a baseline."""

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike

from ppl_models.diagnostics.comparison import BLOCK, deviation_table
from ppl_models.diagnostics.deviations import Sample, deviations, uniform, wasserstein_null
from ppl_models.diagnostics.khat import psis_weights
from ppl_models.diagnostics.labelled import finite_draws
from ppl_models.errors import DataError


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


def _compare_block(reference: Sample) -> pd.DataFrame:
    columns = deviations(uniform(reference.values), reference)
    errors = {
        name: np.sqrt(((column.fit_terms + column.reference_terms) ** 2).sum(axis=-1))
        for name, column in columns.items()
    }
    num_parameters, num_draws = reference.values.shape
    excess = float(((reference.weights - 1.0 / num_draws) ** 2).sum())  # sum w^2 - 1/S without cancellation
    return deviation_table(columns, errors, wasserstein_null(reference, np.full(num_parameters, excess)))
