"""The evidence of a model, log p(data), as every method returns it."""

import html
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ppl_models.checks import Check, advice_of, all_passed, check_html, check_lines, passed_text

CONFIDENCE = 0.95


@dataclass(frozen=True, eq=False, repr=False)
class Evidence:
    """An estimate of log p(data) with its error; of each datum's where the method was asked for them.

    Attributes:
        method: which one made it: "ais", "bidirectional", "thermodynamic", "bridge", "smc", "importance".
        log_evidence: in nats, shape () or, for each datum, the shape of the data plates.
        standard_error: Monte Carlo standard error of `log_evidence` in nats, same shape; NaN where unknown.
        interval: ends of the confidence interval of `log_evidence`, shape (2, *datum).
        lower: what is below the truth in expectation, nats, same shape; None where the method bounds nothing.
        upper: what is above the truth in expectation, nats, same shape; None where the method bounds nothing. An
            estimate and no bound where `config["exact"]` is False.
        num_draws: how many independent draws, chains or particles stand behind each estimate.
        checks: the method's own health.
        config: method, options, seed and versions that made it.
        seconds: time spent.
        log_weights: nats, shape (draw, *datum), the log of whose mean weight is `lower`; None where there are none.
        lower_error: standard error of `lower` in nats, same shape; NaN or None where unknown.
        upper_error: of `upper`.
    """

    method: str
    log_evidence: np.ndarray
    standard_error: np.ndarray
    interval: np.ndarray
    lower: np.ndarray | None
    upper: np.ndarray | None
    num_draws: int
    checks: tuple[Check, ...]
    config: Mapping[str, Any]
    seconds: float = field(default=0.0)
    log_weights: np.ndarray | None = field(default=None)
    lower_error: np.ndarray | None = field(default=None)
    upper_error: np.ndarray | None = field(default=None)

    def __post_init__(self) -> None:
        for name in ("log_evidence", "standard_error", "interval", "lower", "upper", "lower_error", "upper_error"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else np.asarray(value, dtype=float))
        shape = self.log_evidence.shape
        assert self.standard_error.shape == shape, (self.standard_error.shape, shape)
        assert self.interval.shape == (2, *shape), (self.interval.shape, shape)

    @property
    def by_datum(self) -> bool:
        """Whether there is one figure for each datum."""
        return self.log_evidence.ndim > 0

    @property
    def total(self) -> float:
        """Log evidence of all data together, nats: the sum over the data."""
        return float(self.log_evidence.sum())

    @property
    def total_error(self) -> float:
        """Standard error of `total`, nats: data have draws of their own."""
        return float(np.sqrt((self.standard_error**2).sum()))

    @property
    def width(self) -> np.ndarray | None:
        """Upper less lower bound in nats; None where the method does not give both."""
        if self.lower is None or self.upper is None:
            return None
        with np.errstate(invalid="ignore"):
            return self.upper - self.lower

    @property
    def passed(self) -> bool:
        """Whether every check did; where not, `advice` says what to do."""
        return all_passed(self.checks)

    @property
    def advice(self) -> str:
        """What to do about the checks that did not pass; empty where all did."""
        return advice_of(self.checks)

    @property
    def seed(self) -> int:
        """The seed that was given."""
        return self.config["seed"]

    @property
    def versions(self) -> Mapping[str, str]:
        """Versions of the packages that made it."""
        return self.config["versions"]

    def _rows(self) -> list[tuple[str, str]]:
        return [
            ("method", self.method),
            ("log p", self._estimate()),
            *self._bounds(),
            ("passed", passed_text(self.checks)),
            ("draws", f"{self.num_draws:,}"),
            ("seconds", f"{self.seconds:.1f}"),
        ]

    def _estimate(self) -> str:
        level = f"{100 * self.config.get('confidence', CONFIDENCE):.3g} %"
        if not self.by_datum:
            low, high = self.interval
            return f"{self.total:.4f} ± {_error(self.standard_error)} nats, {level} interval {low:.4f} to {high:.4f}"
        return (
            f"{self.total:.4f} ± {_error(self.total_error)} nats, the sum of {self.log_evidence.size:,} data; "
            f"the largest error of one is {_error(np.max(self.standard_error))}"
        )

    def _bounds(self) -> list[tuple[str, str]]:
        rows = []
        if self.lower is not None:
            rows.append(("at least", f"{_sum(self.lower, self.lower_error)} nats in expectation"))
        if self.upper is not None and self.config.get("exact", True):
            rows.append(("at most", f"{_sum(self.upper, self.upper_error)} nats in expectation"))
        elif self.upper is not None:
            what = f"an estimate and no bound: the reverse run began at {self.config['reverse_starts']}"
            rows.append(("upper", f"{_sum(self.upper, self.upper_error)} nats, {what}"))
        if self.width is not None and self.by_datum:
            rows.append(("widths", f"{self.width.min():.3g} to {self.width.max():.3g} nats by datum"))
        return rows

    def __repr__(self) -> str:
        return "\n".join(
            ["Evidence", *(f"  {name:<8} {value}" for name, value in self._rows()), "", *check_lines(self.checks)]
        )

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>" for name, value in self._rows()
        )
        return f"<div><table><caption>Evidence</caption>{rows}</table>{check_html(self.checks)}</div>"


def _sum(bound: np.ndarray, error: np.ndarray | None) -> str:
    known = "" if error is None or np.isnan(error).any() else f" ± {_error(np.sqrt((error**2).sum()))}"
    return f"{bound.sum():.4f}{known}"


def _error(value: Any) -> str:
    return "unknown" if math.isnan(float(value)) else f"{float(value):.2g}"
