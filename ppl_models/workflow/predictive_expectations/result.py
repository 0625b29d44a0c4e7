"""What a fit predicts, with the error of Monte Carlo beside that of the guide."""

import html
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from ppl_models.checks import Check, check_html, check_lines, plain_number

SEEN = 2.0
"""Standard errors from which a difference is seen; more where several are looked at."""
SHOWN = ("raw", "raw_error", "corrected", "corrected_error", "guide_error", "guide_error_error")


@dataclass(frozen=True, eq=False, repr=False)
class PredictiveExpectation:
    """Estimates under a fit's guide, and corrected to its model's posterior by Pareto-smoothed importance weights.

    Attributes:
        kind: what was estimated, for people.
        table: a row for each output, with the columns `raw` and `raw_error` (the mean over the guide's draws and its
            Monte Carlo standard error), `corrected` and `corrected_error` (the same with weights), `guide_error` and
            `guide_error_error` (raw less corrected: the error that comes from the guide, and the Monte Carlo standard
            error of that), and the ends of the 95 % intervals `raw_low`, `raw_high`, `corrected_low`, `corrected_high`.
        khat: Pareto k-hat of the weights (unitless); above 0.7 the correction cannot be trusted. NaN where the guide
            has no density.
        num_draws: of the guide.
        checks: whether the figures can be trusted.
        config: options, seed and versions that made it.
    """

    kind: str
    table: pd.DataFrame
    khat: float
    num_draws: int
    checks: tuple[Check, ...]
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether no check failed and none was left open."""
        return all(check.passed is True for check in self.checks)

    @property
    def correctable(self) -> bool:
        """Whether the corrected figures can be used: k-hat was measured and is not above its limit."""
        return not math.isnan(self.khat) and not any(
            check.passed is False for check in self.checks if check.name.startswith("k-hat")
        )

    @property
    def raw(self) -> np.ndarray:
        """Estimates from the guide's draws, shape (output,)."""
        return self.table["raw"].to_numpy()

    @property
    def corrected(self) -> np.ndarray:
        """Estimates corrected to the posterior, shape (output,)."""
        return self.table["corrected"].to_numpy()

    @property
    def guide_error(self) -> np.ndarray:
        """Raw less corrected, shape (output,)."""
        return self.table["guide_error"].to_numpy()

    @property
    def dominated_by(self) -> str:
        """Whose error is the larger in the raw estimates: "guide", "monte carlo" or "unknown"."""
        return self._judged()[0]

    @property
    def sentence(self) -> str:
        """The same, said with its figures."""
        return self._judged()[1]

    def _judged(self) -> tuple[str, str]:
        if math.isnan(self.khat):
            return "unknown", "The guide's error is not known: its draws could not be weighted to the posterior."
        if not self.correctable:
            worst = next(c for c in self.checks if c.name.startswith("k-hat") and c.passed is False)
            why = f"{worst.name} is {worst.value:.2f}, above {worst.limit:.2f}"
            return "unknown", (
                f"The correction cannot be trusted, nor its error: {why}. How much the guide errs is not known."
            )
        error = np.abs(self.guide_error)
        own, monte_carlo = (self.table[name].to_numpy() for name in ("guide_error_error", "raw_error"))
        seen = error > norm.isf(norm.sf(SEEN) / len(error)) * own
        dominant, hidden = seen & (error > monte_carlo), ~seen & (own > monte_carlo)
        among = next((rows for rows in (dominant, hidden, seen) if rows.any()), ~seen)
        with np.errstate(divide="ignore", invalid="ignore"):
            times = np.where(error > 0.0, error / monte_carlo, 0.0)
        place = int(np.where(among, times, -1.0).argmax())
        gap = f"{self.guide_error[place]:.3g} ± {own[place]:.2g}"
        beside = f"Monte Carlo error of {monte_carlo[place]:.2g}"
        of = "" if len(error) == 1 else f" of {self.table.index[place]}"
        if dominant.any():
            ratio = f"{times[place]:.3g} times" if math.isfinite(times[place]) else "far above"
            return "guide", (
                f"The guide dominates the error{of}: raw is off by {gap}, {ratio} its {beside}. Use the corrected "
                "figures; more draws do not help the raw ones."
            )
        if hidden.any():
            return "unknown", (
                f"The guide's part of the error{of} is not resolved: {gap}, and a {beside} in raw. Raise num_draws, or "
                "take a guide whose weights vary less."
            )
        known = "the guide's part is smaller" if seen.any() else "none of the guide's is seen"
        return "monte carlo", f"Monte Carlo dominates the error{of}: {known}, {gap}, beside a {beside}."

    def _title(self) -> str:
        khat = "not measured" if math.isnan(self.khat) else plain_number(self.khat)
        return f"{self.kind}, {self.num_draws:,} draws, k-hat {khat}"

    def _said(self) -> list[str]:
        return [self.sentence]

    def __repr__(self) -> str:
        rows = self.table[list(SHOWN)].to_string(float_format=_four_digits)
        return "\n".join([self._title(), rows, *self._said(), *check_lines(self.checks)])

    def _repr_html_(self) -> str:
        rows = self.table[list(SHOWN)].to_html(escape=True, float_format=_four_digits)
        said = "".join(f"<p>{html.escape(sentence)}</p>" for sentence in self._said())
        return f"<div><h4>{html.escape(self._title())}</h4>{rows}{said}{check_html(self.checks)}</div>"


_four_digits: Any = "{:.4g}".format
