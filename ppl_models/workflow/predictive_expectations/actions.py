"""`ppl.best_action`: the action with the least expected loss under a fit."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import norm

from ppl_models.checks import Check
from ppl_models.errors import DataError, OptionError
from ppl_models.inference import Fit
from ppl_models.inference.monte_carlo.heaviest import LargestTerms, check_tail
from ppl_models.program import Data
from ppl_models.versions import versions
from ppl_models.workflow.predictive_expectations.draws import WeightedDraws, weighted_draws
from ppl_models.workflow.predictive_expectations.estimating import (
    ROUNDING,
    Float64Array,
    Side,
    compared,
    even_weights,
    mean_of,
    values_at,
)
from ppl_models.workflow.predictive_expectations.result import PredictiveExpectation

LEAST_CERTAIN = 0.05

Loss = Callable[[Mapping[str, torch.Tensor], Any], Any]


@dataclass(frozen=True, eq=False, repr=False)
class BestAction(PredictiveExpectation):
    """Expected loss of each action, one row each, and which is least.

    Attributes:
        best: label of the action of least expected loss, by the corrected figures where these can be trusted.
        raw_best: label of the one by the raw figures.
        chance_of_other: probability, at most, that an action has a lower expected loss than `best`, so that the ranking
            is due to Monte Carlo error; from the errors of the differences, which are those of pairs.
    """

    best: str = ""
    raw_best: str = ""
    chance_of_other: float = 1.0

    def _said(self) -> list[str]:
        by = "corrected" if self.correctable else "raw"
        chance = "less than 1e-4" if self.chance_of_other < 1e-4 else f"{self.chance_of_other:.2g}"
        said = [f"Best by the {by} figures: {self.best}; that Monte Carlo error hides a better one: {chance} at most."]
        if self.correctable and self.raw_best != self.best:
            said.append(f"The guide misranks: its raw figures prefer {self.raw_best}.")
        return [*said, self.sentence]


def best_action(
    fit: Fit,
    loss: Loss,
    actions: Sequence[Any] | Mapping[str, Any],
    *,
    data: Data | None = None,
    num_draws: int = 10_000,
    seed: int = 0,
) -> BestAction:
    """Choose the action whose expected loss is least, and say how sure that is.

    All actions are judged by the same draws, so that their differences are known better than their losses.

    Args:
        fit: what `ppl.fit` returned.
        loss: takes a mapping from names to draws, shape (draw, *event) each, of latents, deterministics and predicted
            observations, and an action; returns the loss at each draw, shape (draw,).
        actions: two at least; by label, or labelled by what they print as.
        data: new arguments of the model, as `fit.predict` takes them; None predicts the data of the fit anew.
        num_draws: of the guide; at least 100.
        seed: of the draws.

    Returns:
        A table with one row for each action, the best of them, and the probability that Monte Carlo error hides a
        better one.

    Raises:
        OptionError: fewer than two actions, or two of one label, or another option is out of its range.
        DataError: the loss is not finite, or not one number for each draw.
        ModelError: the new data do not fit the posterior's latents.
    """
    named = _named(actions)
    draws = weighted_draws(fit, data, num_draws, seed)
    columns = [_losses(loss, action, draws, seed, label) for label, action in named.items()]
    values, labels = np.concatenate(columns, axis=1), list(named)
    raw = mean_of(values, even_weights(num_draws))
    corrected = None if draws.weights is None else mean_of(values, draws.weights)
    khat = _check_losses(values, draws)
    trusted = corrected is not None and draws.khat.passed is not False and khat.passed is not False
    side = corrected if trusted and corrected is not None else raw
    best, chance = _ranked(side)
    certain = chance <= LEAST_CERTAIN
    ranking = Check(
        "ranking",
        chance,
        LEAST_CERTAIN,
        True if certain else None,
        "" if certain else "raise num_draws, or take the actions to be as good as each other",
        detail="probability, at most, that another action is better",
    )
    config = {"guide": fit.guide_name, "actions": labels, "num_draws": num_draws, "seed": seed, "versions": versions()}
    return BestAction(
        kind="Expected loss",
        table=compared(raw, corrected, labels),
        khat=draws.khat.value,
        num_draws=num_draws,
        checks=(draws.khat, khat, ranking),
        config=config,
        best=labels[best],
        raw_best=labels[int(np.argmin(raw.value))],
        chance_of_other=chance,
    )


def _named(actions: Sequence[Any] | Mapping[str, Any]) -> dict[str, Any]:
    pairs = list(actions.items()) if isinstance(actions, Mapping) else [(str(action), action) for action in actions]
    named = {str(label): action for label, action in pairs}
    if len(named) < 2 or len(named) < len(pairs):
        raise OptionError(
            f"actions: found {len(pairs)} with {len(named)} labels, wanted two at least, each with a label of its own. "
            "Give a mapping from labels to actions."
        )
    return named


def _losses(loss: Loss, action: Any, draws: WeightedDraws, seed: int, label: str) -> Float64Array:
    if not callable(loss):
        raise OptionError(f"loss: found {type(loss).__name__}, wanted a function loss(draws, action).")
    values, _ = values_at(lambda by_name: loss(by_name, action), draws, seed, label, argument="loss")
    if values.shape[1] != 1:
        raise DataError(
            f"loss: returned {values.shape[1]} numbers for each draw at action {label}, wanted one. Sum over the other "
            "axes."
        )
    still = np.ptp(values) <= ROUNDING * np.abs(values).max()
    return np.full_like(values, values[0, 0]) if still else values


def _check_losses(values: Float64Array, draws: WeightedDraws) -> Check:
    """The tail of the weighted losses, which may be heavier than that of the weights."""
    name, advice = "k-hat of the losses", "bound the loss, or take a richer guide"
    if draws.weights is None:
        return Check(name, np.nan, 0.7, None, advice, detail="no weights")
    values = values[:, np.ptp(values, axis=0) > 0.0]
    if not values.size:
        return Check(name, 0.0, 0.7, True, "", detail="no loss varies but for rounding")
    terms = LargestTerms()
    with np.errstate(divide="ignore"):
        logs = draws.log_ratio[:, None] + np.log(np.abs(values - values.mean(axis=0)))
    terms.add(np.where(np.isfinite(logs), logs, -np.inf))
    khat = terms.khat()
    return check_tail(name, float(np.nanmax(khat)) if not np.isnan(khat).all() else np.nan, True, advice)


def _ranked(side: Side) -> tuple[int, float]:
    """The best, and the sum over the others of the probabilities that they are better (Boole's inequality)."""
    best = int(np.argmin(side.value))
    gap = np.delete(side.value - side.value[best], best)
    pairs = side.influence - side.influence[:, [best]]
    error = np.delete(np.sqrt((pairs**2).sum(axis=0)), best)
    with np.errstate(divide="ignore", invalid="ignore"):
        better = np.where(error > 0.0, norm.sf(gap / error), 0.0)
    # what differs by rounding alone is as likely better as worse
    better = np.where(gap <= ROUNDING * np.abs(side.value).max(), 0.5, better)
    return best, float(min(1.0, better.sum()))
