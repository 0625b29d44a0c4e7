"""Means and quantiles of weighted draws beside those of the raw ones, and the error of each and of their difference."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.stats import norm

from ppl_models.errors import DataError, UnknownNameError
from ppl_models.inference.monte_carlo.integrand import Integrand
from ppl_models.program import isolated
from ppl_models.seeds import child_seed
from ppl_models.workflow.predictive_expectations.draws import WeightedDraws

Float64Array = NDArray[np.float64]
OfDraws = Callable[[Mapping[str, torch.Tensor]], Any]

CONFIDENCE = 0.95
Z = float(norm.ppf(0.5 + 0.5 * CONFIDENCE))
ROUNDING = 1e-9
"""Relative difference of two figures that counts as none."""
COLUMNS = (
    "raw",
    "raw_error",
    "corrected",
    "corrected_error",
    "guide_error",
    "guide_error_error",
    "raw_low",
    "raw_high",
    "corrected_low",
    "corrected_high",
)


@dataclass(frozen=True)
class Side:
    """One estimate of every output from draws with some weights.

    Attributes:
        value: shape (output,).
        error: its standard error, same shape.
        low: lower end of the 95 % interval, same shape.
        high: upper end, same shape.
        influence: what each draw adds to the error of the value, shape (draw, output).
    """

    value: Float64Array
    error: Float64Array
    low: Float64Array
    high: Float64Array
    influence: Float64Array


def values_at(
    function: OfDraws | str, draws: WeightedDraws, seed: int, what: str, *, argument: str = "f"
) -> tuple[Float64Array, list[str]]:
    """Values of the user's function at every draw, shape (draw, output), and a label of each output.

    Args:
        function: takes draws by name, and returns (draw, *shape); or the name of a variable.
        draws: what it is evaluated at.
        seed: of random numbers that it may use.
        what: the label where there is one output.
        argument: what the user's function is called, for messages.

    Raises:
        UnknownNameError: there is no such variable.
        DataError: what it returns is not finite, has a wrong shape, or depends on the order of the draws.
    """
    if isinstance(function, str):
        name = function
        if name not in draws.values:
            raise UnknownNameError("variable", name, draws.values)
        function, what = (lambda by_name: by_name[name]), name
    chosen = function
    if not callable(chosen):
        raise DataError(f"{argument}: found {type(chosen).__name__}, wanted a function of draws by name.")
    integrand = Integrand(lambda index: chosen(draws.values.rows(index)), what=argument)
    with isolated(seed=child_seed(seed, "function"), dtype=torch.float64, device=draws.device):
        found = integrand(torch.arange(draws.num_draws, device=draws.device)).double().cpu().numpy()
    shape = found.shape[1:]
    labels = [f"{what}[{', '.join(map(str, place))}]" for place in np.ndindex(shape)] if shape else [what]
    return found.reshape(len(found), -1), labels


def mean_of(values: Float64Array, weights: Float64Array) -> Side:
    """Weighted means, with the delta method's error.

    Args:
        values: shape (draw, output).
        weights: summing to one, shape (draw,).
    """
    value = weights @ values
    # each draw pulls the mean to itself; without its leverage its distance is too short
    influence = _leveraged(weights)[:, None] * (values - value)
    error = np.sqrt((influence**2).sum(axis=0))
    return Side(value, error, value - Z * error, value + Z * error, influence)


def quantile_of(values: Float64Array, weights: Float64Array, probability: float) -> Side:
    """Weighted quantiles; their error is that of the distribution function, through its inverse: no density is fitted.

    Args:
        values: shape (draw, output).
        weights: summing to one, shape (draw,).
        probability: which quantile.
    """
    parts = [_one_quantile(column, weights, probability) for column in values.T]
    value, error, low, high = (np.array([part[place] for part in parts]) for place in range(4))
    return Side(value, error, low, high, np.stack([part[4] for part in parts], axis=1))


def _one_quantile(
    column: Float64Array, weights: Float64Array, probability: float
) -> tuple[float, float, float, float, Float64Array]:
    order = np.argsort(column, kind="stable")
    ordered, cumulative = column[order], np.cumsum(weights[order])

    def inverse(level: float) -> float:
        place = int(np.searchsorted(cumulative, level * cumulative[-1], side="left"))
        return float(ordered[min(max(place, 0), len(ordered) - 1)])

    value = inverse(probability)
    below = _leveraged(weights) * ((column <= value) - probability)
    spread = math.sqrt(float((below**2).sum()))
    low, high = inverse(probability - Z * spread), inverse(probability + Z * spread)
    slope = (high - low) / (2.0 * Z * spread) if spread else 0.0
    return value, slope * spread, low, high, -slope * below


def _leveraged(weights: Float64Array) -> Float64Array:
    return weights / np.sqrt(np.maximum(1.0 - weights, 1e-12))


def compared(raw: Side, corrected: Side | None, labels: list[str]) -> pd.DataFrame:
    """Both estimates, and their difference with the error of pairs: the draws are the same on both sides."""
    unknown = np.full(len(raw.value), math.nan)
    if corrected is None:
        columns = (raw.value, raw.error, unknown, unknown, unknown, unknown, raw.low, raw.high, unknown, unknown)
    else:
        away = np.sqrt(((raw.influence - corrected.influence) ** 2).sum(axis=0))
        gap = raw.value - corrected.value
        gap, away = (np.where(np.abs(gap) <= ROUNDING * np.abs(raw.value), 0.0, both) for both in (gap, away))
        columns = (
            *(raw.value, raw.error, corrected.value, corrected.error, gap, away),
            *(raw.low, raw.high, corrected.low, corrected.high),
        )
    return pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)), index=pd.Index(labels))


def even_weights(num_draws: int) -> Float64Array:
    """The same for every draw."""
    return np.full(num_draws, 1.0 / num_draws)
