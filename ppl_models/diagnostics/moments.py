"""The columns of a comparison held against their limits."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm

from ppl_models.checks import Check
from ppl_models.diagnostics.deviations import COLUMNS

RESOLUTION = 3.0  # Monte Carlo errors that must fit within a limit before a pass counts

REFERENCES = {
    "baseline": "the baseline",
    "pool": "a weighted pool of proposals",
    "psis": "its own importance-weighted draws",
    "scores": "what the gradients of the log density ask for",
}

Float64Array = NDArray[np.float64]


@dataclass(frozen=True)
class Moment:
    """A figure of each marginal: its check's name, its column, its limit on the absolute value, and the remedy."""

    name: str
    column: str
    limit: float
    advice: str


MOMENTS = (
    Moment("mean", "mean_error_sd", 0.2, "use a guide that keeps correlations (full_rank) or bends (iaf)"),
    Moment("sd", "log_sd_ratio", math.log(1.2), "use a guide that keeps correlations (full_rank) or bends (iaf)"),
    Moment("5 % quantile", "q05_error_sd", 0.3, "use a guide that can be skewed (iaf)"),
    Moment("95 % quantile", "q95_error_sd", 0.3, "use a guide that can be skewed (iaf)"),
    Moment("Wasserstein", "wasserstein_sd", 0.2, "use a guide that bends (iaf)"),
)


@dataclass(frozen=True)
class Judged:
    """One moment of every parameter, shape (parameter,): signed values, errors, and which of three states each is in.

    A parameter that varies on neither side is in none of the three, nor is a quantile that lies in a gap between modes.
    """

    values: Float64Array
    errors: Float64Array
    passed: NDArray[np.bool_]
    failed: NDArray[np.bool_]
    unresolved: NDArray[np.bool_]

    @property
    def worst(self) -> int | None:
        """Position of the parameter that decides: the worst failure, else the least resolved, else the largest."""
        for among, by in (
            (self.failed, np.abs(self.values)),
            (self.unresolved, self.errors),
            (self.passed, np.abs(self.values)),
        ):
            if among.any():
                return int(np.where(among, np.nan_to_num(by, nan=np.inf, posinf=np.inf), -np.inf).argmax())
        return None


def judge(table: pd.DataFrame, moment: Moment) -> Judged:
    """Sort the parameters into passed, failed and unresolved.

    Passed: within the limit, which three Monte Carlo errors resolve. Failed: beyond the limit, and further from zero
    than chance takes the worst of so many parameters (three standard errors for one parameter, more for many, so that
    the rate of false alarms over all of them stays at 0.27 %). Unresolved: the rest, which more draws would settle.

    Args:
        table: the frame of `compare` or `compare_with_psis`.
        moment: which column.
    """
    values = table[moment.column].to_numpy(dtype=float, copy=True)
    errors = table[f"{moment.column}_mcse"].to_numpy(dtype=float)
    if moment.column == "wasserstein_sd":
        values = values - table["wasserstein_null_sd"].to_numpy(dtype=float)
    idle = np.isnan(table[list(COLUMNS)].to_numpy(dtype=float)).all(axis=1)
    num_parameters = max(int((~idle).sum()), 1)
    chance = float(norm.isf(norm.sf(RESOLUTION) / num_parameters))
    size = np.abs(values) if moment.column != "wasserstein_sd" else values
    within = size <= moment.limit
    # an infinite error is certain unless it says that the baseline alone does not vary: then there is no unit
    certain = np.isinf(values) & ~((moment.column == "log_sd_ratio") & np.isposinf(values))
    failed = ~idle & ((~within & (size > chance * errors)) | certain) & ~np.isnan(values)
    passed = ~idle & within & (RESOLUTION * errors <= moment.limit)
    in_gap = np.isnan(values) & moment.column.startswith("q") & ~np.isnan(table[COLUMNS[0]].to_numpy(dtype=float))
    return Judged(values, errors, passed, failed, ~idle & ~failed & ~passed & ~in_gap)


def moment_checks(table: pd.DataFrame, reference: str) -> tuple[Check, ...]:
    """One check per moment, each the worst over the parameters.

    Args:
        table: the frame of `compare` or `compare_with_psis`.
        reference: "baseline" or "psis": what the table was measured against.

    Returns:
        Checks `mean`, `sd`, `5 % quantile`, `95 % quantile` and `Wasserstein`. The value is the absolute error of the
        worst parameter (in reference sd; the log ratio for `sd`; the excess over the distance of exact samples for
        `Wasserstein`); the detail names it with its sign. A quantile that lies in a gap between modes for every
        parameter has no check. `passed` is None when a parameter cannot be resolved, or
        when no parameter varies.
    """
    idle = bool(np.isnan(table[COLUMNS[0]].to_numpy(dtype=float)).all())
    return tuple(
        _moment_check(table, moment, REFERENCES[reference])
        for moment in MOMENTS
        if idle or judge(table, moment).worst is not None
    )


def unmeasured_moments(why: str) -> tuple[Check, ...]:
    """The checks of `moment_checks` where nothing can be compared."""
    return tuple(
        Check(moment.name, math.nan, moment.limit, None, "", detail=f"not measured: {why}") for moment in MOMENTS
    )


def unmeasured_table(labels: Sequence[str]) -> pd.DataFrame:
    """The frame of `compare` without any figure."""
    columns = [column for name in COLUMNS for column in (name, f"{name}_mcse")]
    index = pd.Index(labels, name="parameter")
    return pd.DataFrame(math.nan, index=index, columns=pd.Index([*columns, "wasserstein_null_sd"]))


def _moment_check(table: pd.DataFrame, moment: Moment, reference: str) -> Check:
    judged = judge(table, moment)
    worst = judged.worst
    if worst is None:
        return Check(moment.name, math.nan, moment.limit, None, "", detail="no parameter varies")
    passed = False if judged.failed.any() else None if judged.unresolved.any() else True
    advice = {True: "", False: moment.advice, None: "more draws"}[passed]
    value, error = float(judged.values[worst]), float(judged.errors[worst])
    shown = value if moment.column == "wasserstein_sd" else abs(value)
    detail = f"worst: {table.index[worst]} ({describe(moment, value)}) against {reference}"
    num_failed, num_judged = int(judged.failed.sum()), int((judged.failed | judged.passed | judged.unresolved).sum())
    if num_failed > 1:
        detail += f"; {num_failed} of {len(table)} parameters are beyond the limit"
    if num_judged < len(table):
        detail += f"; constants left out: {len(table) - num_judged}"
    return Check(moment.name, shown, moment.limit, passed, advice, error, detail)


def describe(moment: Moment, value: float) -> str:
    """The signed value of a moment in words: '40 % too small', '0.3 sd too high'."""
    if math.isnan(value):
        return "not measured"
    if moment.column == "log_sd_ratio":
        if not math.isfinite(value):
            return "infinitely too large: the reference does not vary" if value > 0 else "zero: the fit does not vary"
        return f"{100 * abs(math.expm1(value)):.0f} % too {'large' if value > 0 else 'small'}"
    if not math.isfinite(value):
        return "another constant than the reference's"
    if moment.column == "wasserstein_sd":
        return (
            f"{value:.2f} sd beyond what exact samples differ by"
            if value > 0
            else "no more than exact samples differ by"
        )
    return f"{abs(value):.2f} sd too {'high' if value > 0 else 'low'}"
