"""How efficient methods are on one expectation, side by side."""

import html
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Float64Array = NDArray[np.float64]

ROUNDING = 1e-13
HEADINGS = {
    "estimate": "estimate",
    "standard_error": "std error",
    "rmse": "RMSE",
    "variance_per_draw": "var x draws",
    "seconds": "ms",
    "efficiency": "efficiency",
    "slope": "slope",
    "trusted": "trusted",
}


@dataclass(frozen=True, eq=False)
class MethodRuns:
    """One method's runs.

    Attributes:
        name: of the method.
        num_draws: evaluations of f in one run at each size, shape (size,).
        estimates: shape (size, repeat).
        standard_errors: that the runs themselves report, shape (size, repeat).
        seconds: of one run at each size, the median over the repeats, shape (size,).
        trusted: share of the runs at the largest size whose checks all passed.
        why_not: the first warning of a run at the largest size; empty where there was none.
    """

    name: str
    num_draws: Float64Array
    estimates: Float64Array
    standard_errors: Float64Array
    seconds: Float64Array
    trusted: float
    why_not: str

    @property
    def cost(self) -> float:
        """Variance of a run at the largest size times its seconds: what efficiency compares."""
        return self.variance * float(self.seconds[-1])

    @property
    def variance(self) -> float:
        """Of the estimates at the largest size; 0 where they differ by rounding alone."""
        last = self.estimates[-1]
        spread = float(last.std(ddof=1))
        return 0.0 if spread <= ROUNDING * float(np.abs(last).max()) else spread**2


@dataclass(frozen=True, eq=False, repr=False)
class MethodComparison:
    """Methods on one expectation, each run several times.

    Attributes:
        runs: by method, in the order asked for.
        exact: the value; None where it is not known.
        config: sizes, repeats, seed and versions.
        left_out: method -> why it cannot be used here.
    """

    runs: tuple[MethodRuns, ...]
    exact: float | None
    config: Mapping[str, Any]
    left_out: Mapping[str, str]

    @property
    def reference(self) -> float:
        """What errors are measured from: the value, or the mean of the method with the smallest variance."""
        if self.exact is not None:
            return self.exact
        best = min(self.runs, key=lambda run: run.variance)
        return float(best.estimates[-1].mean())

    def errors(self, run: MethodRuns) -> Float64Array:
        """Root mean square error of one run at each size, shape (size,)."""
        return np.sqrt(np.square(run.estimates - self.reference).mean(1))

    def slope(self, run: MethodRuns) -> float:
        """Of log error on log draws: -0.5 for plain Monte Carlo; NaN where an error is zero but for rounding."""
        errors = self.errors(run)
        if len(errors) < 2 or not (errors > ROUNDING * abs(self.reference)).all():
            return math.nan
        return float(np.polyfit(np.log(run.num_draws), np.log(errors), 1)[0])

    @property
    def table(self) -> pd.DataFrame:
        """One row for each method, at the largest number of draws.

        Columns: `draws` of one run; `estimate`, the mean over the runs; `standard_error` that the runs report, root
        mean square; `rmse` against the exact value (NaN where it is not known); `variance_per_draw`, that of a run
        times its draws; `seconds` of one run; `efficiency`, variance times seconds of plain Monte Carlo (or of the
        first method) over the method's own, NaN where runs agree on a wrong value; `slope` of log error on log draws;
        `trusted`, the share of runs whose checks all passed.
        """
        base = next((run for run in self.runs if run.name == "plain"), self.runs[0])
        rows = {}
        for run in self.runs:
            last = run.estimates[-1]
            rows[run.name] = {
                "draws": int(run.num_draws[-1]),
                "estimate": float(last.mean()),
                "standard_error": math.sqrt(float(np.square(run.standard_errors[-1]).mean())),
                "rmse": math.nan if self.exact is None else float(self.errors(run)[-1]),
                "variance_per_draw": run.variance * float(run.num_draws[-1]),
                "seconds": float(run.seconds[-1]),
                "efficiency": self._efficiency(run, base),
                "slope": self.slope(run),
                "trusted": run.trusted,
            }
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("method")

    def _efficiency(self, run: MethodRuns, base: MethodRuns) -> float:
        if run.cost > 0.0:
            return base.cost / run.cost if base.cost > 0.0 else math.nan
        # runs that all agree are exact, or all missed the same
        return math.inf if self.errors(run)[-1] <= ROUNDING * abs(self.reference) else math.nan

    def __repr__(self) -> str:
        frame = self.table
        cells = [["method", "draws", *HEADINGS.values()]]
        for name, row in frame.to_dict(orient="index").items():
            numbers = [_cell(column, float(row[column])) for column in HEADINGS]
            cells.append([str(name), f"{int(row['draws']):,}", *numbers])
        widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
        lines = [
            "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
            for line in cells
        ]
        return "\n".join([self._title(), *lines, *self._notes()])

    def _title(self) -> str:
        exact = "unknown" if self.exact is None else f"{self.exact:.7g}"
        return f"Methods on one expectation, exact value {exact}, {self.config['num_repeats']} runs of each"

    def _notes(self) -> list[str]:
        warned = [f"{run.name}: {run.why_not}" for run in self.runs if run.why_not]
        return [*warned, *(f"{name} left out: {reason}" for name, reason in self.left_out.items())]

    def _repr_html_(self) -> str:
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self._notes())
        return f"<div><p>{html.escape(self._title())}</p>{self.table.to_html(escape=True)}{notes}</div>"


def _cell(column: str, value: float) -> str:
    if math.isnan(value):
        return "-"
    if column == "seconds":
        return f"{1000.0 * value:.3g}"
    if column == "trusted":
        return f"{100.0 * value:.0f} %"
    if column == "efficiency":
        return f"{value:,.0f}" if value >= 100.0 else f"{value:.3g}"
    return f"{value:.2f}" if column == "slope" else f"{value:.7g}" if column == "estimate" else f"{value:.3g}"
