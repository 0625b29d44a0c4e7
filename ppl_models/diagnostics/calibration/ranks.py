"""Ranks of true values among draws, tie-safe, and what a set of ranks must be."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ppl_models.diagnostics.deviations import is_constant
from ppl_models.errors import DataError

IntArray = NDArray[np.int64]


def ranks_among(truth: NDArray, draws: NDArray, *, seed: int) -> IntArray:
    """How many draws are below a true value, ties broken at random.

    If the truth is one more draw from the distribution of the draws, the rank is uniform on 0, ..., num_draws, also for
    discrete and constant quantities. Values that differ by no more than rounding, in a quantity that does not vary,
    are ties.

    Args:
        truth: true values, shape (*event).
        draws: independent draws, shape (draw, *event); infinite ones have their place in the order.
        seed: seed of what breaks the ties.

    Returns:
        Ranks of shape (*event), each from 0 to the number of draws.

    Raises:
        DataError: the shapes do not agree, there are no draws, or a number is NaN.

    Modrák et al. (2023), Simulation-based calibration checking for Bayesian computation, Bayesian Analysis 20.
    """
    truth, draws = np.asarray(truth, dtype=float), np.asarray(draws, dtype=float)
    if draws.ndim != truth.ndim + 1 or draws.shape[1:] != truth.shape or not len(draws):
        raise DataError(
            f"ranks: draws of shape {draws.shape} and a truth of shape {truth.shape}, needs (draw, *event) and "
            "(*event) with at least one draw."
        )
    if np.isnan(truth).any() or np.isnan(draws).any():
        raise DataError("ranks: found NaN, needs numbers. Look at how the draws were made.")
    both = np.moveaxis(np.concatenate([truth[None], draws]), 0, -1)
    finite = np.asarray(np.isfinite(both).all(axis=-1))
    constant = finite & is_constant(np.where(finite[..., None], both, 0.0))
    below = np.where(constant, 0, (draws < truth).sum(axis=0))
    ties = np.where(constant, len(draws), (draws == truth).sum(axis=0))
    return below + np.random.default_rng(seed).integers(0, ties + 1)


def checked_ranks(ranks: NDArray, num_draws: int, labels: Sequence[str]) -> IntArray:
    """Ranks as an array of whole numbers, shape (simulation, quantity).

    Raises:
        DataError: another shape, other numbers than 0 to `num_draws`, or labels that are not one for each quantity.
    """
    found = np.asarray(ranks)
    if found.ndim != 2 or found.shape[1] != len(labels) or not len(labels):
        raise DataError(
            f"ranks: shape {found.shape} with {len(labels)} labels, needs (simulation, quantity) with a label for each "
            "quantity, and at least one."
        )
    if found.dtype.kind not in "iu":
        raise DataError(f"ranks: dtype {found.dtype}, needs whole numbers from 0 to {num_draws}.")
    if found.size and (found.min() < 0 or found.max() > num_draws):
        raise DataError(f"ranks: from {found.min()} to {found.max()}, needs 0 to {num_draws}, the number of draws.")
    return found.astype(np.int64)
