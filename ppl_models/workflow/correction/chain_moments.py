"""Moments of the draws of Markov chains, with errors from their effective numbers of draws."""

from dataclasses import fields

import numpy as np

from ppl_models.diagnostics import Moments
from ppl_models.diagnostics.comparison import effective_size
from ppl_models.diagnostics.replicates import FLOOR

BLOCK = 64  # parameters at a time, to bound the memory


def chain_moments(values: np.ndarray) -> Moments:
    """Means and sds over all chains; the error of each from the effective number of draws for that very function.

    Args:
        values: shape (chain, draw, parameter).

    Vehtari et al. (2021), Rank-normalization, folding, and localization, Bayesian Analysis 16(2).
    """
    blocks = [_block(values[..., start : start + BLOCK]) for start in range(0, values.shape[2], BLOCK)]
    parts = (np.concatenate([getattr(block, part.name) for block in blocks]) for part in fields(Moments))
    return Moments(*parts)


def _block(values: np.ndarray) -> Moments:
    num_chains = values.shape[0]
    flat = np.ascontiguousarray(values.reshape(-1, values.shape[2]).T)
    mean, sd = flat.mean(axis=1), flat.std(axis=1)
    size, error, log_sd_error = flat.shape[1], np.zeros(len(flat)), np.zeros(len(flat))
    keep = np.isfinite(mean) & np.isfinite(sd) & (sd > FLOOR * np.maximum(np.abs(mean), FLOOR))
    if keep.any() and size >= 8 * num_chains:
        away = (flat[keep] - mean[keep, None]) / sd[keep, None]
        squares = away**2 - 1.0
        error[keep] = 1.0 / np.sqrt(effective_size(away, num_chains))
        log_sd_error[keep] = 0.5 * squares.std(axis=1) / np.sqrt(effective_size(squares, num_chains))
    elif keep.any():
        error[keep] = log_sd_error[keep] = np.nan
    return Moments(mean, sd, error, log_sd_error)
