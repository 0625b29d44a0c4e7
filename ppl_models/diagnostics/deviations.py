"""How far one weighted sample lies from another, parameter by parameter, and which draws the error comes from.

Each figure is kept with its influence terms: the estimation error is, to first order, the sum over draws of one term
each, so that the Monte Carlo error of any combination follows from the terms (the delta method; Owen 2013,
Monte Carlo theory, methods and examples, chapter 9).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Float64Array = NDArray[np.float64]

COLUMNS = ("mean_error_sd", "log_sd_ratio", "q05_error_sd", "q95_error_sd", "wasserstein_sd")
QUANTILES = (0.05, 0.95)
HALF_WIDTH = 0.025  # of the probability window over which the density at a quantile is taken
SIGMAS, GAP = 3.0, 2.0  # standard errors looked to either side; times the delta method's error that a gap shows by
SAME_CONSTANT = 1e-6  # relative; single precision tells 1.0 from 1.0000001


@dataclass(frozen=True)
class Sample:
    """Weighted draws: `values` of shape (parameter, draw), `weights` of shape (draw,) that sum to one."""

    values: Float64Array
    weights: Float64Array

    @cached_property
    def order(self) -> NDArray[np.intp]:
        """The draws of each parameter from the smallest to the largest, shape (parameter, draw)."""
        return np.argsort(self.values, axis=-1)

    @cached_property
    def ordered(self) -> Float64Array:
        """The sorted values, shape (parameter, draw)."""
        return np.take_along_axis(self.values, self.order, axis=-1)

    @cached_property
    def ordered_weights(self) -> Float64Array:
        """The weights of the sorted values, shape (parameter, draw)."""
        return self.weights[self.order]


@dataclass(frozen=True)
class Estimate:
    """An estimate of shape (parameter,) and its influence terms of shape (parameter, draw)."""

    value: Float64Array
    terms: Float64Array


@dataclass(frozen=True)
class Deviation:
    """One column of the table: values (parameter,), and terms (parameter, draw) of the fit and of its reference."""

    value: Float64Array
    fit_terms: Float64Array
    reference_terms: Float64Array


def uniform(values: Float64Array) -> Sample:
    """Draws of equal weight, values of shape (parameter, draw)."""
    return Sample(values, np.full(values.shape[-1], 1.0 / values.shape[-1]))


def is_constant(values: Float64Array) -> NDArray[np.bool_]:
    """Whether each parameter, shape (parameter, draw), does not vary but for rounding."""
    return np.ptp(values, axis=-1) <= 8 * np.finfo(float).eps * np.abs(values).max(axis=-1)


def deviations(fit: Sample, reference: Sample) -> dict[str, Deviation]:
    """The columns of `COLUMNS`, in units of the reference's standard deviation.

    Args:
        fit: the draws that are judged.
        reference: the draws that stand for the truth; the same parameters.

    Returns:
        One deviation per column; NaN where neither side varies and both agree. A reference that does not vary where
        the fit does gives a `log_sd_ratio` of +inf; two different constants a `mean_error_sd` of inf.
    """
    constant_fit, constant_reference = is_constant(fit.values), is_constant(reference.values)
    mean_fit, mean_reference = _mean(fit), _mean(reference)
    sd_fit, sd_reference = _sd(fit), _sd(reference)
    scale = np.where(constant_reference, np.nan, sd_reference.value)
    relative_scale_terms = sd_reference.terms / scale[:, None]

    def in_reference_sd(difference: Estimate, reference_terms: Float64Array) -> Deviation:
        value = difference.value / scale
        terms = reference_terms / scale[:, None] - value[:, None] * relative_scale_terms
        return Deviation(value, difference.terms / scale[:, None], terms)

    columns = {
        "mean_error_sd": in_reference_sd(
            Estimate(mean_fit.value - mean_reference.value, mean_fit.terms), -mean_reference.terms
        )
    }
    with np.errstate(divide="ignore", invalid="ignore"):
        log_ratio = np.log(np.where(constant_fit, 0.0, sd_fit.value) / scale)
        relative_fit_terms = sd_fit.terms / np.where(constant_fit, np.nan, sd_fit.value)[:, None]
    columns["log_sd_ratio"] = Deviation(log_ratio, relative_fit_terms, -relative_scale_terms)
    quantiles = zip(("q05_error_sd", "q95_error_sd"), _quantiles(fit), _quantiles(reference), strict=True)
    for name, of_fit, of_reference in quantiles:
        columns[name] = in_reference_sd(Estimate(of_fit.value - of_reference.value, of_fit.terms), -of_reference.terms)
    columns["wasserstein_sd"] = in_reference_sd(*_wasserstein(fit, reference))

    first_fit, first_reference = fit.values[:, 0], reference.values[:, 0]
    apart = constant_reference & constant_fit & ~np.isclose(first_fit, first_reference, rtol=SAME_CONSTANT, atol=0.0)
    columns["mean_error_sd"].value[apart] = np.copysign(np.inf, (first_fit - first_reference)[apart])
    columns["log_sd_ratio"].value[constant_reference & ~constant_fit] = np.inf
    return columns


def wasserstein_null(reference: Sample, inverse_size: Float64Array) -> Float64Array:
    """Expected 1-D Wasserstein distance between two samples of one distribution, in its standard deviations.

    W1 is the integral of |F1 - F2| over x. By the central limit theorem for the empirical process, F1(x) - F2(x) is
    normal with mean 0 and variance (1/n1 + 1/n2) F(x) (1 - F(x)) for large samples of one F, and a normal variable has
    E|z| = sqrt(2/pi) sd. Exchanging expectation and integral:

        E W1 = sqrt(2/pi) * sqrt(1/n1 + 1/n2) * integral of sqrt(F (1 - F)) dx.

    It is 0.04 sd for two samples of 2,000 normal draws. F is the empirical distribution of the reference.

    Args:
        reference: the draws that stand for F.
        inverse_size: 1/n1 + 1/n2 of the effective sizes, shape (parameter,).

    Returns:
        The expected distance, shape (parameter,); NaN where the reference does not vary.

    del Barrio, Giné and Matrán (1999), Central limit theorems for the Wasserstein distance, Annals of Probability 27.
    """
    probability = np.clip(np.cumsum(reference.ordered_weights, axis=-1)[:, :-1], 0.0, 1.0)
    integral = (np.sqrt(probability * (1.0 - probability)) * np.diff(reference.ordered, axis=-1)).sum(axis=-1)
    scale = np.where(is_constant(reference.values), np.nan, _sd(reference).value)
    return np.sqrt(2.0 / np.pi * inverse_size) * integral / scale


def without_gaps(
    columns: dict[str, Deviation], errors: dict[str, Float64Array], reference: Sample, inverse_size: Float64Array
) -> dict[str, Float64Array]:
    """Take back what was said of quantiles that lie in a gap between two modes, and give the errors of all columns.

    The sampling distribution of a quantile is that of the distribution function, read backwards: at three standard
    errors of the probability, sqrt(p (1 - p) (1/n1 + 1/n2)), to either side. Where the density is about even, that is
    the delta method's error, which is kept. In a gap it is as wide as the gap, and the quantile is no figure of the
    distribution: the column becomes NaN there, or, where the samples are too small to tell, gets the wider error.

    Args:
        columns: of `deviations`; the quantiles are changed in place.
        errors: by column, shape (parameter,).
        reference: the draws that stand for the truth.
        inverse_size: 1/n1 + 1/n2 of the effective sizes, shape (parameter,).
    """
    middle = np.cumsum(reference.ordered_weights, axis=-1) - 0.5 * reference.ordered_weights
    scale = np.where(is_constant(reference.values), np.nan, _sd(reference).value)
    found = dict(errors)
    for name, probability in zip(("q05_error_sd", "q95_error_sd"), QUANTILES, strict=True):
        reach = SIGMAS * np.sqrt(probability * (1.0 - probability) * inverse_size)
        levels = np.stack([probability - reach, np.full_like(reach, probability), probability + reach], axis=-1)
        rows = zip(levels, middle, reference.ordered, strict=True)
        below, value, above = np.array([np.interp(level, *row) for level, *row in rows]).T
        backwards = np.maximum(above - value, value - below) / SIGMAS / scale
        uneven = backwards > GAP * errors[name]
        found[name] = np.where(uneven, backwards, errors[name])
        columns[name].value[uneven & (reach < HALF_WIDTH)] = np.nan
    return found


def _mean(sample: Sample) -> Estimate:
    mean = sample.values @ sample.weights
    return Estimate(mean, sample.weights * (sample.values - mean[:, None]))


def _sd(sample: Sample) -> Estimate:
    squares = (sample.values - (sample.values @ sample.weights)[:, None]) ** 2
    variance = squares @ sample.weights
    sd = np.sqrt(variance / (1.0 - (sample.weights**2).sum()))  # ddof = 1 where the weights are equal
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = sample.weights * (squares - variance[:, None]) / (2.0 * sd[:, None])
    return Estimate(sd, terms)


def _quantiles(sample: Sample) -> list[Estimate]:
    """Weighted quantiles (Hazen), with the density at each taken over a window of 5 % probability."""
    middle = np.cumsum(sample.ordered_weights, axis=-1) - 0.5 * sample.ordered_weights
    wanted = [p + shift for p in QUANTILES for shift in (-HALF_WIDTH, 0.0, HALF_WIDTH)]
    found = np.array([np.interp(wanted, *row) for row in zip(middle, sample.ordered, strict=True)]).T
    estimates = []
    for below, value, above in found.reshape(len(QUANTILES), 3, -1):
        inverse_density = (above - below) / (2.0 * HALF_WIDTH)
        indicator = sample.values <= value[:, None]
        centred = indicator - (indicator @ sample.weights)[:, None]
        estimates.append(Estimate(value, -sample.weights * centred * inverse_density[:, None]))
    return estimates


def _wasserstein(fit: Sample, reference: Sample) -> tuple[Estimate, Float64Array]:
    """W1 as the difference of means of H, the integral of sign(F_reference - F_fit), which is its derivative."""
    num_fit = fit.values.shape[-1]
    values = np.concatenate([fit.ordered, reference.ordered], axis=-1)
    signed = np.concatenate([-fit.ordered_weights, reference.ordered_weights], axis=-1)
    order = np.argsort(values, axis=-1, kind="stable")  # merges the two sorted runs
    gaps = np.diff(np.take_along_axis(values, order, axis=-1), axis=-1)
    difference = np.cumsum(np.take_along_axis(signed, order, axis=-1), axis=-1)[:, :-1]
    distance = (np.abs(difference) * gaps).sum(axis=-1)
    potential = np.zeros_like(values)
    np.put_along_axis(potential, order[:, 1:], np.cumsum(np.sign(difference) * gaps, axis=-1), axis=-1)
    fit_potential, reference_potential = np.empty_like(fit.values), np.empty_like(reference.values)
    np.put_along_axis(fit_potential, fit.order, potential[:, :num_fit], axis=-1)
    np.put_along_axis(reference_potential, reference.order, potential[:, num_fit:], axis=-1)
    fit_terms = fit.weights * (fit_potential - (fit_potential @ fit.weights)[:, None])
    centred = reference_potential - (reference_potential @ reference.weights)[:, None]
    return Estimate(distance, fit_terms), -reference.weights * centred
