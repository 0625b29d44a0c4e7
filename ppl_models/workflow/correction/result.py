"""The draws that `ppl_models.correct` returns, with how they were made and judged."""

import html
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from ppl_models.checks import advice_of, all_passed, check_html, check_lines, passed_text
from ppl_models.diagnostics import Check, Moments

NUM_ROWS = 5


@dataclass(frozen=True, eq=False, repr=False)
class Corrected:
    """Draws of a fit, corrected.

    Attributes:
        draws: a tree with the groups posterior (dims chain, draw, *event), sample_stats (`log_p` and `log_q` in nats;
            `log_weight` by "importance", whose draws count by their weights; `accepted` by "imh"; those of NUTS),
            observed_data and constant_data. Its attrs tell what made it.
        method: "psis", "importance", "imh" or "nuts".
        why: why this method.
        checks: what was measured on the draws.
        table: one row per scalar parameter: `mean`, `sd`; `ess`, the number of independent draws that would know the
            mean as well; `mcse_sd`, the standard error of the mean in sds, and `log_sd_mcse`, that of the log sd;
            `shift_sd`, how far the mean moved from that of the fit's own draws, in sds; `sd_ratio`, sd over that of
            the fit's own draws. The last columns are NaN or infinite where one of the two does not vary.
        log_weights: of the proposals behind "psis", smoothed, and of the draws of "importance", shape (draw,); their
            exponentials sum to one. None for chains.
        config: method and options as they were given, what the fit was made with, and versions.
        seconds: time spent.
    """

    draws: xr.DataTree
    method: str
    why: str
    checks: tuple[Check, ...]
    table: pd.DataFrame
    log_weights: np.ndarray | None
    config: Mapping[str, Any]
    seconds: float = field(default=0.0)

    @property
    def passed(self) -> bool:
        """Whether every check did; where not, `advice` says what to do."""
        return all_passed(self.checks)

    @property
    def num_effective(self) -> float:
        """The least effective number of draws, over the parameters that vary; NaN where none does."""
        sizes = self.table["ess"].to_numpy(dtype=float)
        return float(np.nanmin(sizes)) if np.isfinite(sizes).any() else math.nan

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

    def moved(self, num_rows: int = NUM_ROWS) -> pd.DataFrame:
        """The rows of the table that differ most from the fit's own draws, most first."""
        if self.table.empty:
            return self.table
        with np.errstate(divide="ignore", invalid="ignore"):
            shift, ratio = (self.table[name].to_numpy(dtype=float) for name in ("shift_sd", "sd_ratio"))
            change = np.nan_to_num(np.maximum(np.abs(shift), np.abs(np.log(ratio))), nan=-1.0, posinf=np.inf)
        return self.table.iloc[np.argsort(-change, kind="stable")[:num_rows]]

    def _rows(self) -> list[tuple[str, str]]:
        sizes = self.draws["posterior"].sizes
        chains = f"{sizes['chain']} chains of " if sizes["chain"] > 1 else ""
        behind = f", from {self.config['num_proposals']:,} of the fit" if self.config["num_proposals"] else ""
        return [
            ("method", f"{self.method}: {self.why}"),
            ("passed", passed_text(self.checks)),
            (
                "draws",
                f"{chains}{sizes['draw']:,}{behind}; for the worst parameter they count as {self.num_effective:,.0f}",
            ),
            ("seconds", f"{self.seconds:.1f}"),
        ]

    def __repr__(self) -> str:
        about = [f"  {name:<8} {value}" for name, value in self._rows()]
        table = self.moved().to_string(float_format=_three)
        return "\n".join(["Corrected", *about, "", *check_lines(self.checks), "", table])

    def _repr_html_(self) -> str:
        about = "".join(f"<tr><th>{_safe(name)}</th><td>{_safe(value)}</td></tr>" for name, value in self._rows())
        table = self.moved().to_html(escape=True, float_format=_three)
        return f"<div><table><caption>Corrected</caption>{about}</table>{check_html(self.checks)}{table}</div>"


def table_of(moments: Moments, raw: Moments, labels: tuple[str, ...]) -> pd.DataFrame:
    """The table of a `Corrected`."""
    varies = moments.varies
    with np.errstate(divide="ignore", invalid="ignore"):
        columns = {
            "mean": moments.mean,
            "sd": moments.sd,
            "ess": np.where(varies, 1.0 / moments.mean_error**2, np.nan),
            "mcse_sd": np.where(varies, moments.mean_error, np.nan),
            "log_sd_mcse": np.where(varies, moments.log_sd_error, np.nan),
            "shift_sd": np.where(varies, (moments.mean - raw.mean) / moments.sd, np.nan),
            "sd_ratio": np.where(varies, moments.sd / raw.sd, np.nan),
        }
    return pd.DataFrame(columns, index=pd.Index(labels, name="parameter"))


def _three(value: float) -> str:
    return f"{value:.3f}"


def _safe(text: str) -> str:
    return html.escape(text)
