"""One measured figure with its limit."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class Check:
    """One measured figure, its limit, and what to do about it.

    Attributes:
        name: what was measured, a few words.
        value: the figure, in the units that `detail` states.
        limit: the bound that `value` is held against.
        passed: None when the figure could not be measured or resolved; that is never a pass.
        advice: what to do next; empty when there is nothing to do.
        mcse: Monte Carlo standard error of `value`, in its units; NaN when unknown.
        detail: the evidence in a sentence: the worst parameter, how it was measured.
    """

    name: str
    value: float
    limit: float
    passed: bool | None
    advice: str
    mcse: float = math.nan
    detail: str = ""

    @property
    def mark(self) -> str:
        """'pass', 'FAIL', or '?' for what could not be measured."""
        return {True: "pass", False: "FAIL", None: "?"}[self.passed]

    @property
    def held_against(self) -> str:
        """The limit as text; empty where nothing was held against it, or there is none."""
        return "" if math.isnan(self.value) or math.isnan(self.limit) else plain_number(self.limit)

    @property
    def measured(self) -> str:
        """The value with its Monte Carlo error, as text."""
        value = "not measured" if math.isnan(self.value) else plain_number(self.value)
        return value if math.isnan(self.mcse) else f"{value} ± {self.mcse:.2g}"

    def __str__(self) -> str:
        limit = self.held_against
        parts = [
            f"{self.mark:<4} {self.name}: {self.measured}" + (f" (limit {limit})" if limit else ""),
            self.detail,
            self.advice,
        ]
        return "; ".join(part.rstrip(".") for part in parts if part)


def plain_number(value: float) -> str:
    """A number as people write it: 2,190 and not 2.19e+03, 1.004 and not 1."""
    if not math.isfinite(value):
        return str(value)
    if abs(value) >= 1e9:
        return f"{value:.3g}"
    if float(value).is_integer() or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3f}".rstrip("0").rstrip(".") if abs(value) >= 1 else f"{value:.3g}"


def check_lines(checks: Sequence[Check]) -> list[str]:
    """One line for each check, its columns below one another."""
    limits = [f"limit {check.held_against}" if check.held_against else "" for check in checks]
    rows = [(check.mark, check.name, check.measured, limit) for check, limit in zip(checks, limits, strict=True)]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(4)]
    return [
        f"  {'  '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))}  {check.detail}".rstrip()
        for row, check in zip(rows, checks, strict=True)
    ]


def check_html(checks: Sequence[Check]) -> str:
    """An HTML table of checks, escaped."""
    cells = [(c.mark, c.name, c.measured, c.held_against, c.detail, c.advice) for c in checks]
    header = "".join(f"<th>{name}</th>" for name in ("", "check", "value", "limit", "detail", "advice"))
    rows = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in cells)
    return f"<table><tr>{header}</tr>{rows}</table>"


def all_passed(checks: Sequence[Check]) -> bool:
    """Whether there are checks and every one of them is passed; one that could not be measured is not."""
    return bool(checks) and all(check.passed is True for check in checks)


def not_passed(checks: Sequence[Check]) -> list[Check]:
    """Those that failed or could not be measured."""
    return [check for check in checks if check.passed is not True]


def advice_of(checks: Sequence[Check]) -> str:
    """What to do about the checks that did not pass, each once; empty where all did."""
    return "; ".join(dict.fromkeys(check.advice for check in not_passed(checks) if check.advice))


def passed_text(checks: Sequence[Check]) -> str:
    """Whether all passed; if not, which did not, and what to do."""
    names = ", ".join(check.name for check in not_passed(checks))
    return "yes" if all_passed(checks) else f"NO ({names}): {advice_of(checks)}"
