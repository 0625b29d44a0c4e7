"""Whether the iterates of an optimisation at a fixed step size are stationary, and their average known."""

import math
from collections.abc import Sequence

import numpy as np
from arviz_stats.base import array_stats
from numpy.typing import ArrayLike, NDArray
from scipy.stats import chi2, norm

from ppl_models.checks import Check
from ppl_models.diagnostics.deviations import is_constant
from ppl_models.diagnostics.moments import RESOLUTION
from ppl_models.diagnostics.optimisation import MIN_STEPS
from ppl_models.errors import DataError

RHAT_LIMIT, WANDERING = 1.1, 1.5
"""R-hat that passes, and R-hat that fails however few effective steps there are."""
ERROR_LIMIT = 0.05
"""Standard error of an averaged iterate that matters, in the scales given."""
NUM_TRIED, NUM_AVERAGED = 10, 200
"""Parameters, the worst first, whose effective sample sizes are taken: for what chance gives, and for averages."""

LOST = 8.0
"""Effective steps that a chain's mean and trend take, and with them the slowest part of the autocorrelation."""

Float64Array = NDArray[np.float64]


def check_iterates(
    iterates: ArrayLike, labels: Sequence[str] | None = None, *, scale: ArrayLike | None = None
) -> Check:
    """Whether the iterates at a fixed step size are stationary, and their average known.

    Stochastic gradients at a fixed step size make a Markov chain. Its split R-hat over independent optimisations (or
    the halves of one) says whether it has reached its stationary distribution; the standard error of the average,
    from the effective sample size, how well the average is known.

    Args:
        iterates: variational parameters after each step, shape (chain, step, parameter); at least 100 steps.
        labels: one per parameter; None for their positions.
        scale: what counts as one unit of each parameter, shape (parameter,): the posterior sd for a location, 1 for a
            log scale. None leaves the error of the average out.

    Returns:
        The check `iterates`. Its value is the largest R-hat, with the limit 1.1; or, where that passes, the largest
        standard error of an average in its scale, with the limit 0.05, if that is exceeded. It fails where R-hat is
        beyond 1.1 and beyond what chance takes the worst parameter to, 1.5 at most: for m (half) chains of one
        distribution R-hat squared is 1 + m X / ((m - 1) ESS), X chi-squared with m - 1 degrees of freedom, at a
        probability of 0.13 % over all parameters. Between the two more steps would tell. Stationary iterates fail in
        at most 3 % with ten effective steps or more in each of four chains; with five in each of two chains half do,
        for these have not been seen to mix. NaN or infinite iterates fail.

    Raises:
        DataError: wrong shapes.

    Dhaka, Catalina, Andersen, Magnusson, Huggins and Vehtari (2020), Robust, accurate stochastic optimization for
    variational inference, NeurIPS; Welandawe, Andersen, Vehtari and Huggins (2024), A framework for improving the
    reliability of black-box variational inference, JMLR 25; Vats and Knudson (2021), Revisiting the Gelman-Rubin
    diagnostic, Statistical Science 36(4), for R-hat as a function of the ESS.
    """
    values = np.asarray(iterates, dtype=float)
    if values.ndim != 3:
        raise DataError(f"iterates: shape {values.shape}, needs (chain, step, parameter). Use iterates[None] for one.")
    names = parameter_names(labels, values.shape[2])
    bad = ~np.isfinite(values)
    if bad.any():
        worst = names[int(bad.sum(axis=(0, 1)).argmax())]
        detail = f"{int(bad.any(axis=2).sum())} iterates are NaN or infinite, worst: {worst}"
        return Check("iterates", math.nan, RHAT_LIMIT, False, "lower step_size, other initial values", detail=detail)
    moving = np.flatnonzero(~is_constant(np.moveaxis(values, 2, 0).reshape(values.shape[2], -1)))
    if values.shape[1] < MIN_STEPS or not moving.size:
        why = "no parameter moves" if not moving.size else f"{values.shape[1]} steps, needs at least {MIN_STEPS}"
        return unmeasured("iterates", RHAT_LIMIT, why)
    by_parameter = np.ascontiguousarray(np.moveaxis(values[..., moving], 2, 0))
    rhat = _split_rhat(by_parameter)
    tried = np.argsort(-rhat)[:NUM_TRIED]
    chances = _chance(by_parameter[tried], len(moving))
    worst = int(np.argmax((rhat[tried] - 1.0) / (np.clip(chances, RHAT_LIMIT, WANDERING) - 1.0)))
    value, chance = float(rhat[tried[worst]]), float(min(chances[worst], WANDERING))
    limit = max(RHAT_LIMIT, chance)
    detail = f"R-hat, worst: {names[moving[tried[worst]]]}; chance alone gives up to {chance:.3f}"
    if value > limit:
        return Check("iterates", value, limit, False, "raise max_steps: the iterates still wander", detail=detail)
    if value > RHAT_LIMIT:
        return Check("iterates", value, limit, None, "raise max_steps", detail=f"{detail}, too few steps to tell")
    if scale is None:
        return Check("iterates", value, limit, True, "", detail=detail)
    spread = by_parameter.std(axis=(1, 2)) / units(scale, values.shape[2])[moving]
    widest = np.argsort(-spread)[:NUM_AVERAGED]
    sizes = [_size(by_parameter[place], "mean") for place in widest]
    errors = spread[widest] / np.sqrt(sizes)
    largest = int(errors.argmax())
    error, name = float(errors[largest]), names[moving[widest[largest]]]
    known = f"averages are known to {error:.2g} of their scale, worst: {name}"
    if error > ERROR_LIMIT:
        return Check("iterates", error, ERROR_LIMIT, False, "average more steps", detail=f"{known}; {detail}")
    return Check("iterates", value, limit, True, "", detail=f"{detail}; {known}")


def parameter_names(labels: Sequence[str] | None, number: int) -> list[str]:
    """Labels in backticks, or positions.

    Raises:
        DataError: not one label per parameter.
    """
    if labels is None:
        return [f"parameter {place}" for place in range(number)]
    if len(labels) != number:
        raise DataError(f"labels: {len(labels)} found, needs {number}, one per parameter.")
    return [f"`{label}`" for label in labels]


def units(scale: ArrayLike, number: int) -> Float64Array:
    """Positive scales, shape (parameter,).

    Raises:
        DataError: another shape, or scales that are not positive and finite.
    """
    found = np.asarray(scale, dtype=float)
    if found.shape != (number,):
        raise DataError(f"scale: shape {found.shape}, needs ({number},), one per parameter.")
    if not (np.isfinite(found) & (found > 0.0)).all():
        raise DataError("scale: needs positive and finite scales. Use 1 where a parameter has none.")
    return found


def unmeasured(name: str, limit: float, why: str) -> Check:
    """A check without a figure."""
    return Check(name, math.nan, limit, None, "", detail=f"not measured: {why}")


def _halves(chains: Float64Array) -> Float64Array:
    """Halves of chains of shape (parameter, chain, step) as chains of their own."""
    half = chains.shape[-1] // 2
    return np.concatenate([chains[..., :half], chains[..., -half:]], axis=1)


def _split_rhat(chains: Float64Array) -> Float64Array:
    halves = _halves(chains)
    within = halves.var(axis=2, ddof=1).mean(axis=1)
    between = halves.mean(axis=2).var(axis=1, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.sqrt(np.where(within > 0.0, between / within, np.inf) + 1.0 - 1.0 / halves.shape[2])


def _chance(chains: Float64Array, num_parameters: int) -> Float64Array:
    """R-hat that stationary iterates exceed with a probability of 0.13 %, over all parameters.

    The effective sample size is that about each chain's own linear trend, lest what R-hat measures pass for noise.
    """
    num_chains, num_steps = chains.shape[1:]
    time = np.linspace(-1.0, 1.0, num_steps)
    noise = chains - chains.mean(axis=2, keepdims=True)
    noise = noise - (noise @ time)[..., None] * time / (time @ time)
    per_chain = np.array([_size(part, "identity") for part in noise]) / num_chains
    per_half = 0.5 * np.clip(per_chain - LOST, 1.0, num_steps)
    num_halves = 2 * num_chains
    return np.sqrt(1.0 + chi2.isf(norm.sf(RESOLUTION) / num_parameters, num_halves - 1) / (num_halves - 1) / per_half)


def _size(chains: Float64Array, method: str) -> float:
    """Effective sample size of chains of shape (chain, step), at least 1."""
    centred = chains - chains.mean()
    scaled = centred / max(float(np.abs(centred).max()), np.finfo(float).tiny)  # arviz takes tiny draws for constants
    found = np.asarray(array_stats.ess(scaled, chain_axis=0, draw_axis=1, method=method), dtype=float).item()
    return max(found, 1.0) if math.isfinite(found) else 1.0
