"""`ppl.quantiles`: quantiles of what a fit predicts."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ppl_models.checks import Check
from ppl_models.errors import OptionError
from ppl_models.inference import Fit
from ppl_models.program import Data
from ppl_models.versions import versions
from ppl_models.workflow.predictive_expectations.draws import weighted_draws
from ppl_models.workflow.predictive_expectations.estimating import (
    OfDraws,
    compared,
    even_weights,
    quantile_of,
    values_at,
)
from ppl_models.workflow.predictive_expectations.result import PredictiveExpectation

LEAST_BEYOND = 20


def quantiles(
    fit: Fit,
    f: OfDraws | str,
    *,
    probs: Sequence[float] = (0.05, 0.5, 0.95),
    data: Data | None = None,
    num_draws: int = 10_000,
    seed: int = 0,
) -> PredictiveExpectation:
    """Quantiles of a function of a fit's draws, raw and corrected to the posterior, with the error of each.

    A quantile's error is that of the share of draws below it, which is binomial whatever the distribution, carried over
    to the quantile by the order statistics; with weights, their delta method takes the place of the binomial.

    Args:
        fit: what `ppl.fit` returned.
        f: takes a mapping from names to draws, shape (draw, *event) each, of latents, deterministics and predicted
            observations, and returns numbers, shape (draw, *shape); or the name of one of them.
        probs: probabilities strictly between 0 and 1.
        data: new arguments of the model, as `fit.predict` takes them; None predicts the data of the fit anew.
        num_draws: of the guide; at least 100.
        seed: of the draws.

    Returns:
        A table with a row for each output and quantile, its checks, and whose error is the larger.

    Raises:
        OptionError, UnknownNameError: an option is out of its range, or a name is not known.
        DataError: f returns what is not finite or not one value for each draw.
        ModelError: the new data do not fit the posterior's latents.

    David and Nagaraja (2003), Order statistics, section 7.1.
    """
    levels = _checked(probs)
    draws = weighted_draws(fit, data, num_draws, seed)
    values, labels = values_at(f, draws, seed, "f")
    tables = []
    for level in levels:
        raw = quantile_of(values, even_weights(num_draws), level)
        corrected = None if draws.weights is None else quantile_of(values, draws.weights, level)
        tables.append(compared(raw, corrected, [f"{100 * level:g} % of {label}" for label in labels]))
    table = pd.concat(tables).iloc[_by_output(len(labels), len(levels))]
    config: dict[str, Any] = {
        "guide": fit.guide_name,
        "probs": levels,
        "num_draws": num_draws,
        "seed": seed,
        "versions": versions(),
    }
    size = num_draws if draws.weights is None else 1.0 / float((draws.weights**2).sum())
    checks = (draws.khat, _check_beyond(size, levels))
    return PredictiveExpectation("Quantiles", table, draws.khat.value, num_draws, checks, config)


def _checked(probs: Sequence[float]) -> tuple[float, ...]:
    try:
        levels = tuple(float(level) for level in np.atleast_1d(np.asarray(probs, dtype=float)))
    except (TypeError, ValueError):
        levels = ()
    if not levels or not all(0.0 < level < 1.0 for level in levels):
        raise OptionError(
            f"probs: found {probs!r}, wanted probabilities strictly between 0 and 1, such as (0.05, 0.95)."
        )
    return levels


def _by_output(num_outputs: int, num_levels: int) -> np.ndarray:
    return np.arange(num_levels * num_outputs).reshape(num_levels, num_outputs).T.ravel()


def _check_beyond(size: float, levels: Sequence[float]) -> Check:
    fewest = size * min(min(level, 1.0 - level) for level in levels)
    enough = fewest >= LEAST_BEYOND
    return Check(
        "draws beyond the quantiles",
        fewest,
        LEAST_BEYOND,
        True if enough else None,
        "" if enough else "raise num_draws, or ask for less extreme quantiles",
        detail="effective draws beyond the most extreme one",
    )
