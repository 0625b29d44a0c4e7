"""Bounds on the log evidence from a fit's own draws, and how far the ELBO stays below."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from ppl_models.checks import Check
from ppl_models.diagnostics.elbo import elbo_estimate
from ppl_models.diagnostics.khat import valid_log_ratio
from ppl_models.diagnostics.moments import RESOLUTION
from ppl_models.errors import DataError, OptionError

NUM_BLOCKS = 20
MIN_BLOCKS = 10
NUM_REGROUPINGS = 10
# The least KL(q || p) at which the mean of one direction of a normal posterior is 0.2 sd off: 0.2^2 / 2. An sd that is
# too small or too large by a factor of 1.2 takes 0.029 or 0.038 nats.
NATS_PER_PARAMETER = 0.02
GAP = "ELBO gap"

Float64Array = NDArray[np.float64]


def importance_bound(log_ratio: ArrayLike, num_importance: int = 64, *, seed: int = 0) -> tuple[float, float]:
    """Importance-weighted bound L_K = E log (1/K sum of K weights) on the log evidence, ELBO <= L_K <= log Z.

    The draws are cut into up to 20 blocks; in each, ten random regroupings into disjoint groups of K are averaged,
    which is unbiased. The Monte Carlo error is that of the mean of the blocks, which are independent.

    Args:
        log_ratio: log p - log q in nats, shape (draw,), independent draws of q; at least 100 and ten times K.
        num_importance: K, the weights in each group; K = 1 gives the ELBO.
        seed: seed of the regroupings.

    Returns:
        The estimate and its Monte Carlo standard error, in nats; (-inf, NaN) where a whole group has zero density.

    Raises:
        DataError: as `elbo_estimate`, or fewer draws than ten groups.
        OptionError: K is not positive.

    Burda, Grosse and Salakhutdinov (2016), Importance weighted autoencoders, ICLR.
    """
    return _mean_and_error(_block_bounds(valid_log_ratio(log_ratio), num_importance, seed))


def cubo_estimate(log_ratio: ArrayLike) -> tuple[float, float]:
    """Chi upper bound on the log evidence, CUBO_2 = 0.5 log E_q[(p/q)^2] >= log Z.

    The estimate is biased low, and without a finite variance where k-hat is above 0.25: it bounds nothing there unless
    the draws are many.

    Args:
        log_ratio: log p - log q in nats, shape (draw,), independent draws of q; at least 100.

    Returns:
        The estimate and its Monte Carlo standard error (delta method), in nats.

    Raises:
        DataError: as `elbo_estimate`.

    Dieng, Tran, Ranganath, Paisley and Blei (2017), Variational inference via chi upper bound minimization, NeurIPS.
    """
    ratios = valid_log_ratio(log_ratio)
    log_square = float(np.asarray(logsumexp(2.0 * ratios))) - math.log(ratios.size)
    relative = np.exp(2.0 * ratios - log_square)
    return 0.5 * log_square, float(0.5 * relative.std(ddof=1) / math.sqrt(ratios.size))


def check_gap(log_ratio: ArrayLike, dim: int, *, num_importance: int = 64, seed: int = 0) -> Check:
    """Judge the ELBO by the importance-weighted bound above it.

    The gap L_K - ELBO is at most log Z - ELBO = KL(q || p): a large gap proves a large divergence, a small one proves
    nothing where the weights' tail is not seen. For a normal posterior the mean of one direction can be 0.2 sd off only
    if KL is at least 0.02 nats, an sd by a factor of 1.2 only if it is at least 0.029. So a gap of up to 0.02 nats in
    all passes. One beyond 0.02 nats for each parameter fails: as much as if every parameter were off by 0.2 sd. What
    lies between is undecided, for one parameter may carry it all, or none. Dependence that the guide drops counts too,
    where means and sds may be right.

    Args:
        log_ratio: log p - log q in nats, shape (draw,), independent draws of q; at least 100 and ten times K.
        dim: number of latent scalars.
        num_importance: K, the weights in each group of the bound.
        seed: seed of the regroupings.

    Returns:
        The check `ELBO gap`: value the gap in nats, limit 0.02 nats times `dim`. `passed` also is None where three
        Monte Carlo errors do not resolve it, and, with the value NaN, where nothing can be measured: too few draws, NaN
        or infinite ratios.

    Raises:
        DataError: the ratios are not one-dimensional.
        OptionError: K or the dimension is not positive.
    """
    if np.ndim(log_ratio) != 1:
        raise DataError(f"log_ratio: shape {np.shape(log_ratio)}, needs (draw,). Stack the chains first.")
    if dim < 1:
        raise OptionError(
            f"dim={dim}: needs the number of latent scalars, at least 1. Pass the size of the flat vector."
        )
    limit = NATS_PER_PARAMETER * dim
    try:
        ratios = valid_log_ratio(log_ratio)
        bounds = _block_bounds(ratios, num_importance, seed)
    except DataError as error:
        return Check(GAP, math.nan, limit, None, "", detail=f"not measured: {error}")
    elbo, elbo_error = elbo_estimate(ratios)
    if not math.isfinite(elbo):
        return Check(GAP, math.nan, limit, None, "", detail="not measured: a draw has zero posterior density")
    gap, error = _mean_and_error(bounds - _block_means(ratios, bounds.size))
    small = gap <= NATS_PER_PARAMETER and RESOLUTION * error <= NATS_PER_PARAMETER
    large = gap > limit and gap - limit > RESOLUTION * error
    detail = f"nats between the ELBO, {elbo:.2f} ± {elbo_error:.2g}, and its bound with {num_importance} weights"
    if small:
        return Check(GAP, gap, limit, True, "", error, detail)
    if large:
        advice = "use a guide that keeps correlations (full_rank) or bends (iaf), or fit for longer"
        return Check(GAP, gap, limit, False, advice, error, detail)
    detail += f"; one parameter could be 0.2 sd off at {NATS_PER_PARAMETER} nats, all of them at {limit:.3g}"
    advice = "more draws" if RESOLUTION * error > NATS_PER_PARAMETER else "see which parameter the other checks name"
    return Check(GAP, gap, limit, None, advice, error, detail)


def _block_bounds(ratios: Float64Array, num_importance: int, seed: int) -> Float64Array:
    """Unbiased estimates of the bound from disjoint blocks of the draws, shape (block,)."""
    if num_importance < 1:
        raise OptionError(f"num_importance={num_importance}: needs at least 1. Use 64.")
    num_blocks = min(NUM_BLOCKS, ratios.size // num_importance)
    if num_blocks < MIN_BLOCKS:
        raise DataError(
            f"log_ratio: {ratios.size} draws, needs {MIN_BLOCKS * num_importance} for groups of {num_importance}. "
            "Draw more, or lower num_importance."
        )
    if num_importance == 1:
        return _block_means(ratios, num_blocks)
    rng = np.random.default_rng(seed)
    bounds = []
    for block in np.array_split(ratios, num_blocks):
        num_groups = block.size // num_importance
        order = rng.permuted(np.tile(block, (NUM_REGROUPINGS, 1)), axis=1)[:, : num_groups * num_importance]
        groups = order.reshape(NUM_REGROUPINGS, num_groups, num_importance)
        with np.errstate(divide="ignore"):
            bounds.append(float((np.asarray(logsumexp(groups, axis=2)) - math.log(num_importance)).mean()))
    return np.array(bounds)


def _block_means(ratios: Float64Array, num_blocks: int) -> Float64Array:
    return np.array([block.mean() for block in np.array_split(ratios, num_blocks)])


def _mean_and_error(blocks: Float64Array) -> tuple[float, float]:
    if np.isneginf(blocks).any():
        return -math.inf, math.nan
    return float(blocks.mean()), float(blocks.std(ddof=1) / math.sqrt(blocks.size))
