"""What gradient estimators are worth at given parameters: a row of a table for each, and its checks."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import norm

from ppl_models.checks import Check, check_html, check_lines
from ppl_models.inference.gradients.estimate import by_name, element
from ppl_models.inference.gradients.replicates import Replicates
from ppl_models.program.estimators import Estimator

CHANCE = 1e-4
"""Probability that an unbiased estimator is called biased."""
ROUNDING = 1e-12
"""Spread that is none, over the gradient's own size."""
SHOWN = {
    "bias": "bias",
    "bias_error": "± error",
    "variance_per_draw": "variance x draws",
    "signal_to_noise": "signal / noise",
    "seconds": "s / estimate",
}


@dataclass(frozen=True, repr=False)
class GradientVariance:
    """What gradient estimators are worth at given parameters.

    Attributes:
        table: one row for each estimator and element of the parameters, with the columns `estimator`, `parameter`,
            `gradient` (the mean estimate), `exact`, `bias`, `bias_error` (its standard error), `variance_per_draw`
            (variance of one estimate times its draws), `signal_to_noise` (|mean| over the sd of one estimate), `draws`
            (of one estimate), `seconds` (of one estimate, all parameters together) and `biased` (whether the estimator
            is so by its making). NaN where there is no exact gradient.
        exact: where the exact gradient comes from: "given", "enumeration", or "none".
        left_out: estimator -> why it cannot serve; only where all were asked for.
        checks: of each estimator whether its estimates are numbers, and of those that claim it whether they are
            unbiased.
        config: the options, the seed and the versions that made it.
    """

    table: pd.DataFrame = field(repr=False)
    exact: str
    left_out: Mapping[str, str]
    checks: tuple[Check, ...]
    config: Mapping[str, Any] = field(repr=False)

    @property
    def summary(self) -> pd.DataFrame:
        """One row for each estimator: of all elements the sum of variances, and what is furthest from its gradient."""
        rows = {}
        for name, part in self.table.groupby("estimator", sort=False):
            away = np.nan_to_num(np.abs(part["bias"]) / np.maximum(part["bias_error"], 1e-300), nan=-1.0)
            worst: Any = part.iloc[int(away.argmax())]
            variance = float(part["variance_per_draw"].to_numpy().sum())
            noise = math.sqrt(variance / float(worst["draws"]))
            signal = math.sqrt(float(np.square(part["gradient"].to_numpy()).sum()))
            rows[name] = {
                "bias": worst["bias"],
                "bias_error": worst["bias_error"],
                "variance_per_draw": variance,
                "signal_to_noise": signal / noise if noise != 0.0 else math.inf if signal > 0.0 else math.nan,
                "seconds": worst["seconds"],
                "biased": bool(worst["biased"]),
            }
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("estimator")

    def _shown(self) -> pd.DataFrame:
        summary = self.summary
        shown = pd.DataFrame(index=summary.index)
        for column, title in SHOWN.items():
            shown[title] = [f"{value:.3g}" if math.isfinite(value) else str(value) for value in summary[column]]
        if self.exact == "none":
            shown = shown.drop(columns=["bias", "± error"])
        return shown.rename(
            index={
                name: f"{name}*"
                for name, biased in zip(summary.index, summary["biased"].to_numpy(), strict=True)
                if biased
            }
        )

    def _title(self) -> str:
        found = {"none": "no exact gradient", "given": "against the gradient given"}
        against = found.get(self.exact, "against the exact gradient")
        return f"Gradient estimators, {self.config['num_replicates']:,} estimates each, {against}"

    def _notes(self) -> list[str]:
        labelled = np.asarray(self.table["biased"], dtype=bool)
        notes = ["* biased by its making"] if labelled.any() else []
        if len(set(self.table["parameter"])) > 1:
            notes.append("of several parameters: variances summed, the bias of the worst")
        return notes

    def __repr__(self) -> str:
        lines = [self._title(), self._shown().rename_axis(None).to_string(), *self._notes()]
        failed = [check for check in self.checks if check.passed is False]
        advice = dict.fromkeys(f"To do: {check.advice}." for check in failed if check.advice)
        return "\n".join([*lines, *check_lines(failed), *advice])

    def _repr_html_(self) -> str:
        notes = "".join(f"<p>{escape(note)}</p>" for note in self._notes())
        body = self._shown().to_html(escape=True, border=0)
        return f"<p>{escape(self._title())}</p>{body}{notes}{check_html([c for c in self.checks if c.passed is False])}"


def rows_of(
    one: Estimator, found: Replicates, shapes: Mapping[str, torch.Size], exact: np.ndarray | None
) -> list[dict[str, Any]]:
    """The rows of one estimator, one for each element of the parameters.

    Args:
        one: the estimator.
        found: its estimates.
        shapes: of the parameters, by name.
        exact: what it estimates, shape (parameter,); None where that is not known.
    """
    gradients = found.gradients
    number = gradients.shape[1]
    wanted = np.full(number, np.nan) if exact is None else exact
    mean, sd = gradients.mean(axis=0), gradients.std(axis=0, ddof=1)
    sd = np.where(sd <= ROUNDING * np.abs(gradients).max(axis=0), 0.0, sd)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(sd != 0.0, np.abs(mean) / sd, np.where(mean == 0.0, np.nan, np.inf))
    labels = [element(name, index) for name, part in by_name(mean, shapes).items() for index in np.ndindex(part.shape)]
    return [
        {
            "estimator": repr(one).removesuffix(" [biased]"),
            "parameter": label,
            "gradient": mean[place],
            "exact": wanted[place],
            "bias": mean[place] - wanted[place],
            "bias_error": sd[place] / math.sqrt(len(gradients)),
            "variance_per_draw": sd[place] ** 2 * found.num_draws,
            "signal_to_noise": ratio[place],
            "draws": found.num_draws,
            "seconds": found.seconds,
            "biased": one.biased,
        }
        for place, label in enumerate(labels)
    ]


def check_unbiased(one: Estimator, rows: Sequence[Mapping[str, Any]]) -> list[Check]:
    """Whether the mean is the exact gradient's, for those that claim it."""
    if one.biased:
        return []
    name = f"unbiased ({one.name})"
    limit = float(norm.isf(0.5 * CHANCE / len(rows)))
    away = np.array([abs(row["bias"]) for row in rows])
    if np.isnan(away).any():
        why = "no exact gradient to compare with, or estimates that are NaN"
        return [Check(name, math.nan, limit, None, "give exact, where it is known", detail=why)]
    rounding = np.array([1e-9 * max(abs(row["exact"]), 1e-9) for row in rows])
    error = np.array([row["bias_error"] for row in rows])
    distance = np.where(away <= rounding, 0.0, away / np.maximum(error, 1e-300))
    worst = int(distance.argmax())
    passed = bool(distance[worst] <= limit)
    advice = "" if passed else "the gradient given may be another objective's; else a dependence that it cannot see"
    return [
        Check(name, float(distance[worst]), limit, passed, advice, 1.0, f"standard errors, {rows[worst]['parameter']}")
    ]
