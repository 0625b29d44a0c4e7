"""Fits with planted faults beside baselines of the same posterior."""

import math

import numpy as np

from .samples import autoregressive, matrix

NUM_PARAMETERS = 5


def right(rng, shape=(4, 1_000), correlation=0.5, num_draws=4_000, num_parameters=NUM_PARAMETERS):
    """Draws of a standard normal, and an autocorrelated baseline; shapes (1, draw, parameter), (chain, draw, ...)."""
    return rng.normal(size=(1, num_draws, num_parameters)), autoregressive(rng, (*shape, num_parameters), correlation)


def half_width(rng):
    fit, baseline = right(rng)
    fit[..., 0] *= 0.5
    return matrix(fit), matrix(baseline)


def shifted_mean(rng):
    fit, baseline = right(rng)
    fit[..., 0] += 0.5
    return matrix(fit), matrix(baseline)


def dropped_correlation(rng):
    """All marginals are right."""
    fit, baseline = right(rng)
    baseline[..., 1] = 0.9 * baseline[..., 0] + math.sqrt(0.19) * baseline[..., 1]
    return matrix(fit), matrix(baseline)


def missed_mode(rng):
    """Chains that visit both modes many times."""
    fit, baseline = right(rng)
    baseline[..., 0] += np.where(autoregressive(rng, baseline.shape[:2], 0.8) > 0, 3.0, -3.0)
    fit[..., 0] += 3.0
    return matrix(fit), matrix(baseline)


def cut_tails(rng):
    """Student t with three degrees of freedom, its outer 10 % piled up at the 5 % and 95 % quantiles."""
    fit, baseline = (x / np.sqrt(rng.chisquare(3, size=x.shape) / 3) for x in right(rng))
    return matrix(np.clip(fit, -2.35, 2.35)), matrix(baseline)


def dropped_funnel(rng):
    """The width of one parameter depends on another; the fit has both marginals right, and no dependence."""
    fit, baseline = right(rng)
    baseline[..., 1] *= np.exp(baseline[..., 0])
    fit[..., 1] *= np.exp(rng.normal(size=fit.shape[:2]))
    return matrix(fit), matrix(baseline)
