"""What `ppl.audit` returns."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any

import pandas as pd
import xarray as xr

from ppl_models.checks import Check, check_html, check_lines
from ppl_models.diagnostics import ActiveUnits, AggregatedPosterior, EncoderRanks, FeaturePIT, RateDistortion
from ppl_models.inference import Fit
from ppl_models.workflow.audit.judging import CORRECT
from ppl_models.workflow.audit.posterior_audit import PosteriorAudit

CORRECTABLE = "usable after the correction named"
SHOWN = ("elbo", "log_evidence", "inference_gap", "amortisation_gap", "approximation_gap", "khat")


@dataclass(frozen=True, eq=False, repr=False)
class Audit:
    """Whether the inference of an autoencoder can be believed at some rows of data, and what its model is worth.

    Attributes:
        verdict: of q(z | x) at these rows: "trust", "correct" or "reject"; `ppl.audit` says when.
        reasons: why.
        table: one row per datum: bounds, gaps and k-hat with their standard errors (`_se`), nats; worst error of a mean
            in posterior sds, worst log sd ratio, and the health of MCMC.
        units: activity of each unit, and the collapse.
        point: rate and distortion.
        aggregated: the aggregated posterior against the prior.
        ranks: SBC of the encoder; None where there is none.
        pit: predictive calibration; None where there is none.
        posteriors: the posteriors of the rows by optimisation, MCMC and quadrature; None if left out.
        draws: unconstrained latents for ArviZ: the children `amortised` and `mcmc`, each with a group `posterior`.
        inference_checks: what the verdict rests on.
        model_checks: what is known of the generative model.
        health: whether the audit's own figures may be believed.
        fit: at the rows audited.
        data: the rows audited, by argument.
        rows: their places in the data.
        seconds: by part.
        config: options, seed, versions, and the fit's own.
    """

    verdict: str
    reasons: tuple[str, ...]
    table: pd.DataFrame = field(repr=False)
    units: ActiveUnits = field(repr=False)
    point: RateDistortion = field(repr=False)
    aggregated: AggregatedPosterior = field(repr=False)
    ranks: EncoderRanks | None = field(repr=False)
    pit: FeaturePIT | None = field(repr=False)
    posteriors: PosteriorAudit | None = field(repr=False)
    draws: xr.DataTree = field(repr=False)
    inference_checks: tuple[Check, ...] = field(repr=False)
    model_checks: tuple[Check, ...] = field(repr=False)
    health: tuple[Check, ...] = field(repr=False)
    fit: Fit = field(repr=False)
    data: Mapping[str, Any] = field(repr=False)
    rows: tuple[int, ...] = field(repr=False)
    seconds: Mapping[str, float] = field(repr=False)
    config: Mapping[str, Any] = field(repr=False)

    @property
    def checks(self) -> tuple[Check, ...]:
        """Every check: of q(z | x), of the model, and of the audit itself."""
        return (*self.inference_checks, *self.model_checks, *self.health)

    @property
    def summary(self) -> tuple[str, str]:
        """Two lines: what q(z | x) is worth, and what the generative model is."""
        failed = [check.name for check in self.model_checks if check.passed is False]
        open_ = [check.name for check in self.model_checks if check.passed is None]
        model = "no fault found" if not failed else f"faults found ({', '.join(failed)})"
        if open_:
            model += f"; not measured or not resolved: {', '.join(open_)}"
        word = f"{self.verdict} ({CORRECTABLE})" if self.verdict == CORRECT else self.verdict
        return f"q(z | x): {word}; {'; '.join(self.reasons)}", f"generative model: {model}"

    @property
    def means(self) -> pd.DataFrame:
        """Mean, median, smallest and largest of the main figures over the rows, nats."""
        shown = [name for name in SHOWN if name in self.table]
        return self.table[shown].agg(["mean", "median", "min", "max"]).T

    def facts(self) -> list[tuple[str, str]]:
        """What was audited and where it stands, as names and texts."""
        source = "rows of the fit's own data" if self.config.get("own_data") else "rows given"
        rate, distortion, _ = self.point.errors
        return [
            ("rows", f"{len(self.rows):,} {source}; {len(self.point.rate_by_row):,} for what needs the encoder alone"),
            ("guide", self.fit.guide_name),
            *(("held", f"`{name}` at {where}") for name, where in self.config.get("held", {}).items()),
            ("units", f"{self.units.num_active} of {len(self.units.labels)} active, collapsed: {self.units.collapse}"),
            ("rate", f"{self.point.rate:.3f} ± {rate:.2g} nats per datum"),
            ("distortion", f"{self.point.distortion:.3f} ± {distortion:.2g} nats per datum"),
            ("seconds", f"{sum(self.seconds.values()):.1f}"),
        ]

    def __repr__(self) -> str:
        first, second = self.summary
        means = self.means.to_string(float_format=lambda value: f"{value:.3f}")
        parts = [
            f"Audit: {first}",
            f"       {second}",
            "",
            *(f"  {name:<10} {value}" for name, value in self.facts()),
            "",
            *("  " + line for line in means.splitlines()),
            "",
            "of q(z | x)",
            *check_lines(self.inference_checks),
            "of the generative model",
            *check_lines(self.model_checks),
            "of this audit",
            *check_lines(self.health),
        ]
        return "\n".join(parts)

    def _repr_html_(self) -> str:
        facts = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in self.facts())
        title = "".join(f"<p><strong>{escape(line)}</strong></p>" for line in self.summary)
        means = self.means.to_html(escape=True, float_format=lambda value: f"{value:.3f}")
        checks = "".join(
            f"<h5>{escape(name)}</h5>{check_html(part)}"
            for name, part in (
                ("Of q(z | x)", self.inference_checks),
                ("Of the generative model", self.model_checks),
                ("Of this audit", self.health),
            )
        )
        return f"<div>{title}<table>{facts}</table>{means}{checks}</div>"
