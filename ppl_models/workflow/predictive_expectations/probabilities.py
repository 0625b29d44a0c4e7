"""`ppl.probability`: how probable an event is under a fit."""

from typing import Any

import numpy as np

from ppl_models.checks import Check
from ppl_models.errors import DataError
from ppl_models.inference import Fit
from ppl_models.program import Data
from ppl_models.versions import versions
from ppl_models.workflow.predictive_expectations.draws import weighted_draws
from ppl_models.workflow.predictive_expectations.estimating import (
    Float64Array,
    OfDraws,
    compared,
    even_weights,
    mean_of,
    values_at,
)
from ppl_models.workflow.predictive_expectations.result import PredictiveExpectation

LEAST_OCCURRENCES = 20


def probability(
    fit: Fit, event: OfDraws, *, data: Data | None = None, num_draws: int = 10_000, seed: int = 0
) -> PredictiveExpectation:
    """Probability of an event under a fit, raw and corrected to the posterior, with the error of each.

    Args:
        fit: what `ppl.fit` returned.
        event: takes a mapping from names to draws, shape (draw, *event) each, of latents, deterministics and predicted
            observations, and returns truth values, shape (draw, *shape): `lambda d: d["y"].max(-1).values > 3.0`.
        data: new arguments of the model (covariates of new rows, with None for the observed ones), as `fit.predict`
            takes them; None predicts the data of the fit anew.
        num_draws: of the guide; at least 100.
        seed: of the draws.

    Returns:
        A table with one row for each output of the event, its checks, and whose error is the larger.

    Raises:
        OptionError, UnknownNameError: an option is out of its range, or a name is not known.
        DataError: the event does not return truth values, one for each draw.
        ModelError: the new data do not fit the posterior's latents.
    """
    draws = weighted_draws(fit, data, num_draws, seed)
    values, labels = values_at(event, draws, seed, "probability", argument="event")
    if not ((values == 0.0) | (values == 1.0)).all():
        raise DataError("event: returned other numbers than 0 and 1, wanted truth values. Compare: d['x'] > 0.")
    corrected = None if draws.weights is None else mean_of(values, draws.weights)
    table = compared(mean_of(values, even_weights(num_draws)), corrected, labels)
    config: dict[str, Any] = {"guide": fit.guide_name, "num_draws": num_draws, "seed": seed, "versions": versions()}
    checks = (draws.khat, check_occurrences(values, draws.weights))
    return PredictiveExpectation("Probability", table, draws.khat.value, num_draws, checks, config)


def check_occurrences(values: Float64Array, weights: Float64Array | None) -> Check:
    """Whether an event and its contrary both happen often enough for an error bar.

    Args:
        values: zeros and ones, shape (draw, output).
        weights: of the draws, shape (draw,); None for even ones.
    """
    happened = values.sum(axis=0)
    rarer = np.minimum(happened, len(values) - happened)
    if weights is not None:
        # of weighted draws as many count as would leave the same error
        of_rarer = np.where(happened <= len(values) - happened, values, 1.0 - values)
        with np.errstate(divide="ignore", invalid="ignore"):
            effective = (weights @ of_rarer) ** 2 / (weights**2 @ of_rarer)
        rarer = np.minimum(rarer, np.nan_to_num(effective))
    fewest = float(rarer.min())
    enough = fewest >= LEAST_OCCURRENCES
    return Check(
        "occurrences",
        fewest,
        LEAST_OCCURRENCES,
        True if enough else None,
        "" if enough else "raise num_draws",
        detail="effective draws of the event, or of its contrary where that is rarer",
    )
