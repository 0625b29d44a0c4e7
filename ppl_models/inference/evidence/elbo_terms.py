"""The ELBO as what it is made of: how well the data are reconstructed, less how far the guide is from the prior."""

import html
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch

from ppl_models.checks import Check, check_html, check_lines
from ppl_models.inference.evidence.elbo_split import ElboSplit, split_of_elbo, terms_of
from ppl_models.inference.evidence.preconditions import check_observed, check_proper
from ppl_models.inference.fit_result import Fit
from ppl_models.program import map_draws
from ppl_models.program.estimators.drawing import draw
from ppl_models.seeds import child_seed


@dataclass(frozen=True, eq=False, repr=False)
class ElboTerms:
    """ELBO = reconstruction - divergence, in nats, each with its standard error over the same draws.

    Attributes:
        reconstruction: E_q[log p(x | z)].
        reconstruction_error: its standard error.
        divergence: KL(q(z) || p(z)).
        divergence_error: its standard error; 0 where all of it is in closed form.
        elbo: reconstruction less divergence.
        elbo_error: its standard error; the two terms depend on one another.
        closed_form: latents whose divergence given their parents is in closed form.
        sampled: latents whose divergence is a mean of log q - log p at the draws.
        by_datum: one row for each datum, with `reconstruction` and `divergence` and their errors, where one plate
            holds all observations; None elsewhere. The divergence is that of the datum's own latents, NaN where it has
            none or the guide draws them together with others.
        global_divergence: KL of the latents that belong to no datum.
        num_draws: draws of the guide.
        checks: whether the terms are finite.
        config: options, seed and versions that made it.
        seconds: time spent.
    """

    reconstruction: float
    reconstruction_error: float
    divergence: float
    divergence_error: float
    elbo: float
    elbo_error: float
    closed_form: tuple[str, ...]
    sampled: tuple[str, ...]
    by_datum: pd.DataFrame | None
    global_divergence: float
    num_draws: int
    checks: tuple[Check, ...]
    config: Mapping[str, Any]
    seconds: float = field(default=0.0)

    def _rows(self) -> list[tuple[str, str]]:
        kinds = (("closed form of", self.closed_form), ("sampled:", self.sampled))
        found = [f"{kind} {', '.join(names)}" for kind, names in kinds if names]
        how = "; ".join(found) if self.closed_form else "sampled"
        return [
            ("reconstruction", f"{self.reconstruction:.4f} ± {self.reconstruction_error:.2g}"),
            ("divergence", f"{self.divergence:.4f} ± {self.divergence_error:.2g}, {how}"),
            ("ELBO", f"{self.elbo:.4f} ± {self.elbo_error:.2g}"),
            ("draws", f"{self.num_draws:,}"),
        ]

    def __repr__(self) -> str:
        rows = [f"  {name:<15} {value}" for name, value in self._rows()]
        return "\n".join(["Terms of the ELBO in nats", *rows, *check_lines(self.checks)])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>" for name, value in self._rows()
        )
        return f"<div><table><caption>Terms of the ELBO in nats</caption>{rows}</table>{check_html(self.checks)}</div>"


def estimate_terms(
    fit: Fit, num_draws: int, seed: int, config: Mapping[str, Any], *, closed_form: bool = True
) -> ElboTerms:
    """The terms of a fit's ELBO at draws of its guide.

    Args:
        fit: with a density, of all data at once.
        num_draws: draws of the guide.
        seed: of these draws.
        config: what the result shall carry.
        closed_form: whether divergences in closed form take the place of sampled ones; without them, reconstruction
            less divergence is the mean of log p - log q at the draws.

    Raises:
        ModelError: the model sums out discrete sites, so that the ELBO has no separate terms; it observes nothing, or a
            prior does not integrate to one.
    """
    check_observed(fit.program, "elbo_terms")
    program = fit.program
    with program.isolated(seed=child_seed(seed, "draws")), torch.no_grad():
        check_proper(program, draw(program, fit.guide))
        split = split_of_elbo(program, fit.guide, closed_form=closed_form)
    with program.isolated(seed=child_seed(seed, "draws")), torch.no_grad():
        found: Any = map_draws(lambda: terms_of(program, fit.guide, split), num_draws, size_hint=program.size_hint)
    terms = {name: value.double().cpu().numpy() for name, value in found.items()}
    return _result(terms, split, num_draws, config)


def _result(terms: Mapping[str, np.ndarray], split: ElboSplit, num_draws: int, config: Mapping[str, Any]) -> ElboTerms:
    flat = {name: value.reshape(num_draws, -1) for name, value in terms.items()}
    reconstruction, local, shared = (flat[name].sum(axis=1) for name in ("reconstruction", "local", "global"))
    divergence = local + shared
    finite = float(np.isfinite(reconstruction - divergence).mean())
    with np.errstate(invalid="ignore"):
        figures = [_mean_and_error(one) for one in (reconstruction, divergence, reconstruction - divergence)]
    advice = "" if finite == 1.0 else "find the draws whose density is not finite: guide and model differ in support"
    return ElboTerms(
        *(float(number) for figure in figures for number in figure),
        closed_form=split.closed_form,
        sampled=split.sampled,
        by_datum=_by_datum(flat, split) if split.axes else None,
        global_divergence=float(shared.mean()),
        num_draws=num_draws,
        checks=(Check("share of draws with finite terms", finite, 1.0, finite == 1.0, advice),),
        config=config,
    )


def _mean_and_error(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    with np.errstate(invalid="ignore"):  # terms that are infinite have an error of NaN
        return values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(len(values))


def _by_datum(flat: Mapping[str, np.ndarray], split: ElboSplit) -> pd.DataFrame:
    columns: dict[str, np.ndarray] = {}
    for column, name in (("reconstruction", "reconstruction"), ("divergence", "local")):
        mean, error = _mean_and_error(flat[name])
        measured = column == "reconstruction" or split.has_local
        columns[column], columns[f"{column}_error"] = (
            np.broadcast_to(one if measured else np.nan, len(flat["reconstruction"][0])) for one in (mean, error)
        )
    names = [name for name, _ in split.axes]
    index = pd.MultiIndex.from_product([range(size) for size in split.shape], names=names)
    return pd.DataFrame(columns, index=index.get_level_values(0) if len(names) == 1 else index)
