"""LOO-PIT: is each observation where the others' predictive distribution would put it?"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr

from ppl_models.checks import Check
from ppl_models.errors import DataError

Float64Array = NDArray[np.float64]

LOO_PIT = "LOO-PIT"
PIT_LIMIT = 0.01
MIN_OBSERVATIONS = 8
NUM_SIMULATIONS = 2_000
MAX_POINTS = 200
NUMBERS_AT_ONCE = 2_000_000


def loo_pit(observed: ArrayLike, replicated: ArrayLike, log_weights: ArrayLike, *, seed: int = 0) -> Float64Array:
    """Probability integral transform of each observation in its leave-one-out predictive distribution.

    Args:
        observed: data, shape (observation,).
        replicated: data replicated from each draw, shape (draw, observation).
        log_weights: weights that leave each observation out, as `leave_one_out` gives them, shape (draw, observation).
        seed: where replicates equal the observation, as for counts, the transform is uniform over their share.

    Returns:
        Uniform numbers in (0, 1) if the model is right, shape (observation,).

    Raises:
        DataError: the shapes do not agree.

    Gelfand, Dey and Chang (1992); Czado, Gneiting and Held (2009), Predictive model assessment for count data,
    Biometrics 65(4).
    """
    values, draws, weights = (np.asarray(a, dtype=float) for a in (observed, replicated, log_weights))
    if values.ndim != 1 or draws.ndim != 2 or draws.shape[1:] != values.shape or weights.shape != draws.shape:
        raise DataError(
            f"LOO-PIT: observed {values.shape}, replicated {draws.shape}, log_weights {weights.shape}; needs "
            "(observation,), (draw, observation) and (draw, observation)."
        )
    share = np.exp(weights)
    below = (share * (draws < values)).sum(axis=0)
    ties = (share * (draws == values)).sum(axis=0)
    # where all replicates lie on one side, no number of draws says how far out the observation is
    least = np.maximum(ties, (share**2).sum(axis=0))
    uniform = np.random.default_rng(seed).uniform(size=len(values))
    start = np.minimum(below, 1.0 - least)
    return np.clip(start + uniform * least, np.finfo(float).tiny, 1.0 - np.finfo(float).epsneg)


def check_loo_pit(pit: ArrayLike, *, seed: int = 0, num_unknown: int = 0) -> Check:
    """Judge whether LOO-PIT values are uniform by the simultaneous band of their empirical distribution function.

    The figure is the smallest two-sided binomial probability of the number of values below any of up to 200 points; its
    own distribution for uniform values, simulated, turns it into a p-value.

    Args:
        pit: values in (0, 1), shape (observation,).
        seed: of the simulation.
        num_unknown: how many of the values are no more than guesses. It fails only where it would whatever these are.

    Returns:
        The check; its value is the p-value. LOO-PIT values of a true model are a little dependent, which makes
        the check cautious. Not measured with fewer than 8 observations, or where a value is NaN. Not resolved within
        two Monte Carlo errors of the limit.

    Raises:
        DataError: the values are not one-dimensional, or lie outside of [0, 1].

    Säilynoja, Bürkner and Vehtari (2022), Graphical test for discrete uniformity, Statistics and Computing 32.
    """
    values = np.asarray(pit, dtype=float)
    if values.ndim != 1 or (values < 0.0).any() or (values > 1.0).any():
        raise DataError(f"pit: shape {values.shape}, needs (observation,), each in [0, 1].")
    if values.size < MIN_OBSERVATIONS or np.isnan(values).any():
        reason = "NaN among the values"
        if values.size < MIN_OBSERVATIONS:
            reason = f"{values.size} observations, needs at least {MIN_OBSERVATIONS}"
        return Check(LOO_PIT, math.nan, PIT_LIMIT, None, "", detail=f"not measured: {reason}")
    share = _share(values, seed, 0)
    mcse = math.sqrt(share * (1.0 - share) / NUM_SIMULATIONS)
    shape, advice = _shape(values)
    detail = f"{values.size:,} observations{shape}"
    if abs(share - PIT_LIMIT) < 2.0 * mcse and share > 1.0 / NUM_SIMULATIONS:
        return Check(LOO_PIT, share, PIT_LIMIT, None, "look at the plot of the LOO-PIT values", mcse, detail)
    passed = share > PIT_LIMIT
    if not passed and num_unknown and _share(values, seed, num_unknown) > PIT_LIMIT:
        return Check(LOO_PIT, share, PIT_LIMIT, None, "", mcse, f"{detail}, unless {num_unknown} are elsewhere")
    return Check(LOO_PIT, share, PIT_LIMIT, passed, "" if passed else advice, mcse, "" if passed else detail)


def _share(values: Float64Array, seed: int, num_unknown: int) -> float:
    """The p-value; the largest that any places of the unknown values, counted among all, could give, or more."""
    found = _least_probability(values[None], min(values.size, MAX_POINTS), num_unknown)[0]
    null = _uniform_case(values.size, seed)
    # rounding must not part two outcomes that are equal by symmetry
    return (float((null <= found * (1.0 + 1e-9)).sum()) + 1.0) / (NUM_SIMULATIONS + 1.0)


@lru_cache(maxsize=64)
def _uniform_case(size: int, seed: int) -> Float64Array:
    """The figure's distribution for so many uniform values, shape (simulation,)."""
    rng = np.random.default_rng(seed)
    block = max(1, NUMBERS_AT_ONCE // size)
    starts = range(0, NUM_SIMULATIONS, block)
    samples = (rng.uniform(size=(min(block, NUM_SIMULATIONS - start), size)) for start in starts)
    return np.concatenate([_least_probability(sample, min(size, MAX_POINTS)) for sample in samples])


def _least_probability(values: Float64Array, num_points: int, num_unknown: int = 0) -> Float64Array:
    """Smallest two-sided binomial probability of the counts up to points at equal distances, shape (sample,).

    Unknown values may add to a count or be taken from it: the likeliest count within that many counts.
    """
    size, bins = values.shape[1], num_points + 1
    places = np.clip(np.ceil(values * bins).astype(int) - 1, 0, num_points)
    offset = places + bins * np.arange(len(values))[:, None]
    binned = np.bincount(offset.reshape(-1), minlength=len(values) * bins).reshape(len(values), -1)
    counts = binned[:, :-1].cumsum(axis=1)
    if num_unknown:
        likeliest = np.rint(size * np.arange(1, bins) / bins).astype(int)
        counts = np.clip(likeliest, counts - num_unknown, counts + num_unknown)
    table = bdtr(np.arange(size + 1)[:, None], size, np.arange(1, bins) / bins)
    lower = np.take_along_axis(table, counts, axis=0)
    upper = 1.0 - np.where(counts > 0, np.take_along_axis(table, np.maximum(counts - 1, 0), axis=0), 0.0)
    return np.minimum(lower, upper).min(axis=1)


def _shape(values: Float64Array) -> tuple[str, str]:
    """What the values look like, and what that asks for: centre and width against those of a uniform distribution."""
    size = values.size
    centre = (float(values.mean()) - 0.5) * math.sqrt(12.0 * size)
    width = (float(((values - 0.5) ** 2).mean()) - 1.0 / 12.0) * math.sqrt(180.0 * size)
    if abs(centre) > abs(width):
        side = "below" if centre < 0 else "above"
        return f", too many {side} their predictions", "a model whose predictions are not off to one side"
    if width > 0:
        return ", too many in the tails of their predictions", "a model whose data spread more, or a wider guide"
    return ", too many in the middle of their predictions", "a model whose data spread less, or a narrower guide"
