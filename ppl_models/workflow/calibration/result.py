"""What a calibration found."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from ppl_models.checks import Check, check_html, plain_number

NUM_ROWS = 5
TITLES = {
    "prior": "simulation-based calibration over the prior",
    "posterior": "simulation-based calibration about the posterior",
    "symmetry": "symmetry of the ranks over the prior (VSBC)",
}
BLIND = {
    "prior": "It speaks of all data that the prior predicts, on average; of data like these, kind='posterior' does.",
    "posterior": "It speaks of data like these. What is missed alike for these data and for their replicates, as a "
    "whole mode, can pass.",
    "symmetry": "It sees a centre that is off, and nothing else: a guide with half the width passes. kind='prior' sees "
    "widths.",
}
"""What each kind cannot see."""


@dataclass(frozen=True, eq=False, repr=False)
class Calibration:
    """Ranks of true values among the draws of refits, and what they say.

    Attributes:
        kind: "prior", "posterior" or "symmetry".
        table: one row per scalar quantity: `statistic` (its smallest p-value), `limit` (what it must reach), `passed`,
            `shape` (in words, as "too narrow"), the p-value of each test, and the standard errors by which the ranks'
            mean and spread are above the uniform's (`mean_se`, `spread_se`).
        coverage: how often central intervals hold the truth: columns quantity, level, coverage, lower, upper.
        ranks: ranks by quantity, dims (simulation, *event); those of refits that did not converge among them, -1 where
            a refit gave no draws; `status` along `simulation` tells them apart.
        checks: "SBC" and "coverage", or "VSBC"; and "refits".
        num_simulations: how many were asked for.
        num_draws: posterior draws that each truth was ranked among, so that ranks are 0 to `num_draws`.
        status: "complete", or "out_of_time": fewer simulations than asked for.
        notes: what each refit said, where it was out of the ordinary; empty otherwise.
        config: options, seed and versions that made it.
        seconds: time spent in this call.
        refit_seconds: time spent in the refits, over all workers and calls.
    """

    kind: str
    table: pd.DataFrame = field(repr=False)
    coverage: pd.DataFrame = field(repr=False)
    ranks: xr.Dataset = field(repr=False)
    checks: tuple[Check, ...]
    num_simulations: int
    num_draws: int
    status: str
    notes: tuple[str, ...]
    config: Mapping[str, Any]
    seconds: float
    refit_seconds: float

    @property
    def passed(self) -> bool | None:
        """Whether every check passed; None where none failed and one could not be measured."""
        found = [check.passed for check in self.checks]
        if False in found:
            return False
        return None if None in found else True

    def worst(self, num_rows: int = NUM_ROWS) -> pd.DataFrame:
        """The quantities with the smallest p-values, smallest first."""
        if self.table.empty:
            return self.table
        order = np.argsort(self.table["statistic"].to_numpy(), kind="stable")[:num_rows]
        return self.table[["statistic", "limit", "shape"]].iloc[order]

    def __repr__(self) -> str:
        lines = [f"Calibration: {self._title()}"]
        lines += [f"  {check}" for check in self.checks]
        failed = self.worst()
        if not failed.empty:
            lines += ["", failed.to_string(float_format=plain_number), ""]
        return "\n".join([*lines, BLIND[self.kind]])

    def _repr_html_(self) -> str:
        worst = self.worst()
        table = "" if worst.empty else worst.to_html(escape=True, float_format=plain_number)
        title = f"<h4>{escape(self._title())}</h4>"
        return f"<div>{title}{check_html(self.checks)}{table}<p>{escape(BLIND[self.kind])}</p></div>"

    def _title(self) -> str:
        made = self.ranks.sizes["simulation"]
        word = {True: "passed", False: "failed", None: "not settled"}[self.passed]
        of = f" of {self.num_simulations:,}, out of time" if self.status != "complete" else ""
        return f"{word} ({TITLES[self.kind]}, {made:,} simulations{of}, {self.num_draws} draws, {self.seconds:.1f} s)"
