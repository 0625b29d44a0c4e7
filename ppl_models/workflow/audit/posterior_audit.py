"""What the audit of q(z | x) found, row by row."""

import html
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppl_models.checks import Check, all_passed, check_html, check_lines, passed_text
from ppl_models.inference.by_datum.grid import GridPosteriors

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Estimates:
    """A figure for each row, and its error.

    Attributes:
        value: nats, shape (row,).
        error: Monte Carlo standard error of `value`, nats, shape (row,); NaN where unknown.
    """

    value: Array
    error: Array

    @property
    def mean(self) -> float:
        """The mean over the rows."""
        return float(self.value.mean())

    @property
    def mean_error(self) -> float:
        """Monte Carlo standard error of `mean`: rows have draws of their own."""
        return float(np.sqrt((self.error**2).sum()) / max(1, len(self.error)))

    def less(self, other: "Estimates") -> "Estimates":
        """The difference of two that have draws of their own."""
        with np.errstate(invalid="ignore"):  # of two that are infinite there is none
            return Estimates(self.value - other.value, np.hypot(self.error, other.error))


@dataclass(frozen=True)
class Moments:
    """The amortised posterior beside draws by MCMC, in unconstrained coordinates; all of shape (row, unit).

    Attributes:
        mean: of the MCMC draws.
        sd: of the MCMC draws.
        guide_mean: of the amortised q.
        guide_sd: of the amortised q.
        mean_error_sd: (guide_mean - mean) / sd, in posterior sds.
        mean_error_sd_error: its Monte Carlo standard error.
        log_sd_ratio: log(guide_sd / sd); below zero where q is too narrow.
        log_sd_ratio_error: its Monte Carlo standard error.
    """

    mean: Array
    sd: Array
    guide_mean: Array
    guide_sd: Array
    mean_error_sd: Array
    mean_error_sd_error: Array
    log_sd_ratio: Array
    log_sd_ratio_error: Array


@dataclass(frozen=True, eq=False, repr=False)
class PosteriorAudit:
    """How good an amortised q(z | x) is at each of some rows x, the decoder frozen. Nats, one figure for each row.

    Attributes:
        num_rows: how many rows were audited.
        units: names of the latent units, as "z[0]"; in unconstrained coordinates.
        elbo: of the amortised q.
        best_elbo: of the Gaussian that fits the row's own posterior best.
        best_family: what that Gaussian is: "diagonal" or "full_rank"; that of the amortised q where it is Gaussian.
        guide_family: what the amortised q is: "diagonal", "full_rank", or "other" (flows, conditional factors).
        bounds: importance weighted bounds L_K of the amortised q, by K; L_1 is the ELBO.
        lower: annealed importance sampling: below log p(x) in expectation.
        upper: the same, back from the MCMC draws: above log p(x) in expectation, as far as those are exact.
        log_evidence: log p(x) itself: by quadrature where there is a grid fine enough, else where both runs meet.
        amortisation_gap: best_elbo - elbo, with common random numbers.
        approximation_gap: log_evidence - best_elbo.
        inference_gap: log_evidence - elbo, the sum of both.
        khat: of the amortised q, shape (row,); 0 where its weights are nearly constant.
        relative_ess: effective share of its draws under their weights, shape (row,).
        moments: of the amortised q beside MCMC.
        draws: MCMC draws, unconstrained, shape (chain, draw, row, unit).
        rhat: the largest over the units, shape (row,).
        ess: the smallest bulk or tail effective number of draws over the units, shape (row,).
        divergences: how many draws diverged, shape (row,).
        reliable: whether the MCMC draws of the row pass the gates of a baseline, shape (row,).
        grid: the exact posterior by quadrature, for one or two latent units; None otherwise.
        held: latents outside of the plate, and where they were held.
        checks: the health of the audit and what it says of q, each with its evidence.
        seconds: time spent, by stage.
        config: options, seed, backend and versions that made it.

    Cremer, Li and Duvenaud (2018), Inference suboptimality in variational autoencoders; Wu, Burda, Salakhutdinov and
    Grosse (2017), On the quantitative analysis of decoder-based generative models.
    """

    num_rows: int
    units: tuple[str, ...]
    elbo: Estimates
    best_elbo: Estimates
    best_family: str
    guide_family: str
    bounds: Mapping[int, Estimates]
    lower: Estimates
    upper: Estimates
    log_evidence: Estimates
    amortisation_gap: Estimates
    approximation_gap: Estimates
    inference_gap: Estimates
    khat: Array
    relative_ess: Array
    moments: Moments
    draws: Array
    rhat: Array
    ess: Array
    divergences: NDArray[np.int64]
    reliable: NDArray[np.bool_]
    grid: GridPosteriors | None
    held: Mapping[str, str]
    checks: tuple[Check, ...]
    seconds: Mapping[str, float] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def bracket(self) -> Array:
        """Width of the bracket around log p(x), nats, shape (row,)."""
        return self.upper.less(self.lower).value

    @property
    def passed(self) -> bool:
        """Whether every check did."""
        return all_passed(self.checks)

    def _rows(self) -> list[tuple[str, str]]:
        named = {
            "ELBO": self.elbo,
            **{f"L_{size}": bound for size, bound in self.bounds.items() if size > 1},
            f"best {self.best_family}": self.best_elbo,
            "log p(x)": self.log_evidence,
            "at least": self.lower,
            "at most": self.upper,
            "amortisation gap": self.amortisation_gap,
            "approximation gap": self.approximation_gap,
            "inference gap": self.inference_gap,
        }
        return [
            ("rows", f"{self.num_rows:,} (means over them below, nats)"),
            *((name, f"{one.mean:.4f} ± {one.mean_error:.2g}") for name, one in named.items()),
            ("MCMC", f"{int(self.reliable.sum()):,} of {self.num_rows:,} rows pass the gates"),
            *((f"held: {name}", where) for name, where in self.held.items()),
            ("passed", passed_text(self.checks)),
            ("seconds", f"{sum(self.seconds.values()):.1f}"),
        ]

    def __repr__(self) -> str:
        lines = [f"  {name:<17} {value}" for name, value in self._rows()]
        return "\n".join(["PosteriorAudit", *lines, "", *check_lines(self.checks)])

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th>{html.escape(n)}</th><td>{html.escape(v)}</td></tr>" for n, v in self._rows())
        return f"<div><table><caption>Posterior audit</caption>{rows}</table>{check_html(self.checks)}</div>"
