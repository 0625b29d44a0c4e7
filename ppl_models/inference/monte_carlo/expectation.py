"""The result of an estimation: estimate, error, interval, and whether they can be trusted."""

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppl_models.checks import Check, check_html

Float64Array = NDArray[np.float64]
SHOWN = 3
SMALL = 1e-4
"""Numbers below it are written with a power of ten."""


@dataclass(frozen=True, eq=False, repr=False)
class Expectation:
    """E_q[f], estimated.

    Attributes:
        estimate: a float where f gives one number for each draw, else an array of the shape that it gives.
        standard_error: of the estimate, likewise; NaN where it is unknown.
        interval: lower and upper end of the confidence interval: two floats, or an array of shape (2, *shape).
        ess: independent plain draws that would have the same standard error, likewise.
        num_draws: evaluations of f behind the estimate, those of pilots among them.
        method: that made it.
        status: "fixed" where the number of draws was given, "met" where the wanted error was reached, "budget" where
            the budget of draws was spent before.
        checks: whether the error bar can be trusted.
        seconds: time spent.
        config: options, seed and versions that made it.
        evidence: what else the method found, by name.
    """

    estimate: float | Float64Array
    standard_error: float | Float64Array
    interval: tuple[float, float] | Float64Array
    ess: float | Float64Array
    num_draws: int
    method: str
    status: str
    checks: tuple[Check, ...]
    seconds: float
    config: Mapping[str, Any]
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def __float__(self) -> float:
        return float(self.estimate)

    @property
    def passed(self) -> bool:
        """Whether no check failed and none was left open."""
        return all(check.passed is True for check in self.checks)

    @property
    def warning(self) -> str:
        """Why the error bar cannot be trusted, or might be too short; empty where all checks passed."""
        for verdict, text in ((False, "the error bar cannot be trusted"), (None, "the error bar may be too short")):
            found = [check for check in self.checks if check.passed is verdict]
            if found:
                reasons = "; ".join(f"{check.name} {check.measured} ({check.detail})" for check in found)
                advice = together([check.advice for check in found])
                return f"{text}: {reasons}{self._rare()}. To do: {advice}." if advice else f"{text}: {reasons}."
        return ""

    def _rare(self) -> str:
        """A bound on the probability of an event that never happened, or always did.

        That n independent draws all miss an event of probability p has the probability (1 - p)^n, below 5 % where p is
        above 3 / n.

        Hanley and Lippman-Hand (1983), If nothing goes wrong, is everything all right?, JAMA 249(13).
        """
        same = np.ravel(self.estimate)[np.ravel(self.standard_error) == 0.0]
        if self.method != "plain" or not same.size or not np.isin(same, (0.0, 1.0)).all():
            return ""
        level = self.config.get("confidence", 0.95)
        said = {"never happened": same == 0.0, "always happened": same == 1.0}
        bound = -math.log1p(-level) / self.num_draws
        parts = [f"that {how} has a probability {_side(how, bound)}" for how, where in said.items() if where.any()]
        return f"; where f tells an event, one {', one '.join(parts)} ({100 * level:.4g} %, rule of three)"

    def __repr__(self) -> str:
        level = f"{100 * self.config.get('confidence', 0.95):.4g} %"
        budget = ", the budget was spent before the wanted error was reached" if self.status == "budget" else ""
        line = f"{self._numbers(level)}, {self.method}, {self.num_draws:,} draws{budget}"
        return f"{line}; {self.warning}" if self.warning else line

    def _numbers(self, level: str) -> str:
        if isinstance(self.estimate, float):
            low, high = self.interval
            value, error, *ends = rounded(self.estimate, float(self.standard_error), float(low), float(high))
            return f"{value} ± {error} ({level}: {ends[0]} to {ends[1]})"
        values, errors = np.ravel(self.estimate), np.ravel(self.standard_error)
        shown = [
            " ± ".join(rounded(*pair)) for pair in zip(values[:SHOWN].tolist(), errors[:SHOWN].tolist(), strict=True)
        ]
        more = ", ..." if values.size > SHOWN else ""
        return f"[{', '.join(shown)}{more}] of shape {np.shape(self.estimate)}"

    def _repr_html_(self) -> str:
        return f"<div><p>{html.escape(repr(self))}</p>{check_html(self.checks)}</div>"


def plain_value(value: Float64Array) -> float | Float64Array:
    """A float where there is one number, else the array."""
    return float(value) if np.ndim(value) == 0 else np.asarray(value, dtype=float)


def rounded(value: float, error: float, *others: float) -> tuple[str, ...]:
    """Numbers to two digits of the error."""
    if not math.isfinite(error) or error <= 0.0:
        return tuple(f"{number:.6g}" for number in (value, error, *others))
    decimals = 1 - math.floor(math.log10(error))
    if max(abs(value), error) < SMALL:
        return tuple(_scientific(number, decimals) for number in (value, error, *others))
    if decimals > 12 or abs(value) >= 1e9:
        return tuple(f"{number:.6g}" for number in (value, error, *others))
    return tuple(f"{number:,.{max(decimals, 0)}f}" for number in (value, error, *others))


def _scientific(number: float, decimals: int) -> str:
    if number == 0.0:
        return "0"
    return f"{number:.{max(0, decimals + math.floor(math.log10(abs(number))))}e}"


def _side(how: str, bound: float) -> str:
    return f"below {bound:.2g}" if how == "never happened" else f"above 1 - {bound:.2g}"


def together(advices: Sequence[str]) -> str:
    """Several pieces of advice as one, each said once, and not where a longer one says it."""
    said: list[str] = []
    pieces = {piece for advice in advices for piece in _pieces(advice)}
    whole = []
    for advice in advices:
        new = [
            piece
            for piece in _pieces(advice)
            if piece not in said and not any(other != piece and other.startswith(f"{piece} ") for other in pieces)
        ]
        said += new
        whole += [", or ".join(new)] if new else []
    return "; ".join(whole)


def _pieces(advice: str) -> list[str]:
    return advice.split(", or ") if advice else []
