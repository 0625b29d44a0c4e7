"""Importance weighted bounds on the log evidence, each datum with weights of its own where its latents are its own."""

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.special import logsumexp

from ppl_models.checks import Check, all_passed, check_html, check_lines
from ppl_models.errors import OptionError
from ppl_models.inference.evidence.preconditions import check_observed, check_proper
from ppl_models.inference.fit_result import Fit
from ppl_models.program import map_draws
from ppl_models.program.estimators.drawing import draw
from ppl_models.program.estimators.weights import weights_of
from ppl_models.seeds import child_seed

MOST_NUMBERS = 50_000_000
"""Weights that are held at once."""
FORMATS: Any = {
    "bound": "{:.4f}".format,
    "standard_error": "{:.2g}".format,
    "log_evidence": "{:.4f}".format,
    "log_evidence_error": "{:.2g}".format,
}


@dataclass(frozen=True, eq=False, repr=False)
class ImportanceBound:
    """Bounds L_K = E[log mean of K weights] on the log evidence: L_1 is the ELBO, and they rise with K.

    Attributes:
        table: one row for each K: `bound` with its `standard_error`, the sum over the data, which lies below log p(x)
            in expectation; `log_evidence`, the bound with its bias of order 1/K taken out by the jackknife (NaN for
            K = 1), no bound any more, with its `log_evidence_error`. Nats.
        by_datum: bounds of each datum in nats, shape (K, *datum), the plates that hold every site; (K,) where a latent
            concerns all data.
        error_by_datum: their standard errors.
        num_draws: draws of the guide behind each row.
        checks: the tails of the weights.
        config: options, seed and versions that made it.
        log_weights: log p - log q in nats, shape (draw, *datum).
        seconds: time spent.
    """

    table: pd.DataFrame
    by_datum: np.ndarray
    error_by_datum: np.ndarray
    num_draws: int
    checks: tuple[Check, ...]
    config: Mapping[str, Any]
    log_weights: np.ndarray
    seconds: float = field(default=0.0)

    @property
    def passed(self) -> bool:
        """Whether the tails of the weights allow an error."""
        return all_passed(self.checks)

    def _title(self) -> str:
        data = "everything together" if self.by_datum.ndim == 1 else f"the sum of {self.by_datum[0].size:,} data"
        return f"Importance weighted bounds in nats, {data}, {self.num_draws:,} draws"

    def __repr__(self) -> str:
        rows = self.table.to_string(formatters=FORMATS)
        return "\n".join([self._title(), rows, "", *check_lines(self.checks)])

    def _repr_html_(self) -> str:
        rows = self.table.to_html(escape=True, formatters=FORMATS)
        return f"<div><h4>{html.escape(self._title())}</h4>{rows}{check_html(self.checks)}</div>"


def draw_weights(fit: Fit, num_draws: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Unscaled log weights of draws of a fit's guide, each datum's its own where one plate holds every site.

    Args:
        fit: with a density, of all data at once.
        num_draws: draws of the guide.
        seed: of these draws.

    Returns:
        Log p - log q in nats, shape (draw, *datum), and what each datum counts for: 1, or the scale of its sites.

    Raises:
        OptionError: more weights than can be held, or sites of one plate with other scales.
        ModelError: the model observes nothing, or a prior does not integrate to one.
    """
    program = fit.program
    guide: Any = fit.guide
    check_observed(program, "importance weights")
    with program.isolated(seed=child_seed(seed, "weights")), torch.no_grad():
        check_proper(program, draw(program, guide))
    with program.isolated(seed=child_seed(seed, "weights")), torch.no_grad():
        first = weights_of(program, draw(program, guide))
        num_data = first.log_weight.numel()
        if num_draws * num_data > MOST_NUMBERS:
            most = MOST_NUMBERS // num_data
            raise OptionError(f"num_draws: found {num_draws}, wanted at most {most} for weights of {num_data} data.")
        found: Any = map_draws(
            lambda: weights_of(program, draw(program, guide)).log_weight, num_draws, size_hint=program.size_hint
        )
    return found.double().cpu().numpy(), first.scale.double().cpu().numpy()


def importance_bounds(
    log_weights: np.ndarray, scale: np.ndarray | float, num_importance: Sequence[int]
) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Bounds from weights, for each number of weights inside the logarithm, from disjoint groups of the same draws.

    Args:
        log_weights: log p - log q in nats, shape (draw, *datum), of independent draws.
        scale: what each datum counts for, shape () or (*datum).
        num_importance: numbers of weights K; at least two groups of each are needed.

    Returns:
        The table, bounds by datum and their errors, as `ImportanceBound` has them.

    Burda, Grosse and Salakhutdinov (2016), Importance weighted autoencoders; Nowozin (2018), Debiasing evidence
    approximations: on importance-weighted autoencoders and jackknife variational inference (of first order).
    """
    rows, bounds, errors = [], [], []
    for size in num_importance:
        number = len(log_weights) // size
        groups = log_weights[: number * size].reshape(number, size, *log_weights.shape[1:])
        each = _log_mean(groups)
        bounds.append(each.mean(axis=0))
        with np.errstate(invalid="ignore"):  # a group without weight makes the bound -inf, and its error NaN
            errors.append(each.std(axis=0, ddof=1) / math.sqrt(number))
        bound, error = _total(each, scale)
        evidence, evidence_error = _total(_jackknife(groups, each), scale) if size > 1 else (math.nan, math.nan)
        rows.append((bound, error, evidence, evidence_error))
    columns = ["bound", "standard_error", "log_evidence", "log_evidence_error"]
    table = pd.DataFrame(rows, columns=columns, index=pd.Index(list(num_importance), name="K"))
    return table, np.stack(bounds), np.stack(errors)


def _total(each: np.ndarray, scale: np.ndarray | float) -> tuple[float, float]:
    """Sum over the data of groups (group, *datum), its mean over the groups and the standard error."""
    sums = (scale * each).reshape(len(each), -1).sum(axis=1)
    if not np.isfinite(sums).all():
        return float(sums.mean()), math.nan
    return float(sums.mean()), float(sums.std(ddof=1) / math.sqrt(len(sums)))


def _log_mean(groups: np.ndarray) -> np.ndarray:
    """Log of the mean of the weights in each group, shape (group, *datum), from (group, inside, *datum)."""
    with np.errstate(divide="ignore"):
        return np.asarray(logsumexp(groups, axis=1)) - math.log(groups.shape[1])


def _jackknife(groups: np.ndarray, each: np.ndarray) -> np.ndarray:
    """K L_K - (K - 1) mean of L_{K-1} over the groups without one weight: without the bias of order 1/K."""
    size = groups.shape[1]
    whole = each + math.log(size)
    largest = groups.argmax(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.exp(groups - whole[:, None])
        without = whole[:, None] + np.log1p(-np.minimum(share, 1.0))
        # what remains without the largest weight may be lost in rounding: sum it by itself
        others = np.where(np.arange(size).reshape(-1, *(1,) * (groups.ndim - 2)) == largest, -np.inf, groups)
        np.put_along_axis(without, largest, np.asarray(logsumexp(others, axis=1, keepdims=True)), axis=1)
    return size * each - (size - 1) * (without - math.log(size - 1)).mean(axis=1)
