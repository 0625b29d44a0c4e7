"""Importance sampling: the mean of f q / p over draws of a proposal p, both densities normalised."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch.distributions import Distribution

from ppl_models.checks import Check
from ppl_models.errors import OptionError
from ppl_models.inference.monte_carlo.chunks import chunk_size, chunks
from ppl_models.inference.monte_carlo.heaviest import (
    HEAVIER,
    Float64Array,
    Heaviest,
    LargestTerms,
    check_tail,
)
from ppl_models.inference.monte_carlo.integrand import Integrand
from ppl_models.inference.monte_carlo.method import Estimate
from ppl_models.inference.monte_carlo.moments import Moments
from ppl_models.inference.monte_carlo.proposals import (
    NUM_PROBES,
    check_covered,
    check_mean_weight,
    check_proposal,
    check_terms,
    drawn,
    log_density,
    values_where,
)
from ppl_models.inference.monte_carlo.sources import Source


@dataclass(frozen=True)
class Importance:
    """Draws of a proposal p, weighted by w = q / p: E_q[f] = E_p[w f].

    Unbiased where the proposal has density wherever f q is not zero. How well it works depends on the tail of w f, and
    not on that of w alone. Take q = N(0, 1), p = N(0, 1/3) and f = exp(-z²): w f is constant, one draw gives the exact
    answer, and yet the weights alone have k-hat 2/3 and no variance, so that most other expectations under q would be
    lost. The checks therefore judge w f; `evidence` has the k-hat of the weights beside it.

    Attributes:
        proposal: a torch or Pyro distribution over the space of q.
        smooth: whether the largest weights are Pareto-smoothed: a little bias for much variance where they are heavy.

    Vehtari, Simpson, Gelman, Yao and Gabry (2024), Pareto smoothed importance sampling, JMLR 25(72).
    """

    proposal: Any = None
    smooth: bool = False

    name: ClassVar[str] = "importance"

    def start(self, integrand: Integrand, source: Source, seed: int) -> "ImportanceRun":
        """Begin a run, which looks first whether draws of q lie in the proposal's support.

        Raises:
            OptionError: the proposal is no distribution, or q has no density that is known to be normalised.
        """
        del seed
        target = normalised_target(source)
        proposal = check_proposal(self.proposal, self.name, target)
        draws = drawn(target, NUM_PROBES)
        integrand(draws[:2])  # so that the shape of its values is known where no draw of the proposal has a weight
        covered, unreached = check_covered(draws, proposal, integrand)
        return ImportanceRun(integrand, source, target, proposal, self.smooth, covered, unreached)


def normalised_target(source: Source) -> Distribution:
    """The distribution behind a source.

    Raises:
        OptionError: there is none.
    """
    distribution = getattr(source, "distribution", None)
    if not isinstance(distribution, Distribution):
        raise OptionError(
            f"method='importance': {source.label} has no density that is known to be normalised. Give a distribution "
            "as q, or take method='self_normalised', which takes a log density or a fit."
        )
    return distribution


class ImportanceRun:
    """Moments of the terms w f; the heaviest draws are kept, so that their weights can be smoothed."""

    def __init__(
        self,
        integrand: Integrand,
        source: Source,
        target: Distribution,
        proposal: Distribution,
        smooth: bool,
        covered: Check,
        unreached: float,
    ):
        self.integrand, self.source, self.target, self.proposal = integrand, source, target, proposal
        self.smooth, self.covered, self.unreached = smooth, covered, unreached
        self.heaviest, self.largest = Heaviest(), LargestTerms()
        self.terms, self.weights = Moments(), Moments()
        self.squares: Float64Array = np.zeros(0)

    def extend(self, num_draws: int) -> None:
        """Draw from the proposal, in chunks."""
        for size in chunks(num_draws, chunk_size(self.source)):
            draws = drawn(self.proposal, size)
            ratio = log_density(self.target, draws) - log_density(self.proposal, draws)
            counted = torch.isfinite(ratio)
            values = values_where(self.integrand, draws, counted)
            self._add(np.where(counted.cpu().numpy(), ratio.double().cpu().numpy(), -math.inf), values)

    def _add(self, log_weights: Float64Array, values: Float64Array) -> None:
        weights = np.exp(log_weights)
        terms = weights[:, None] * values
        self.weights.add(torch.from_numpy(weights))
        self.terms.add(torch.from_numpy(terms))
        self.squares = (
            self.squares + (terms * values).sum(axis=0) if self.squares.size else (terms * values).sum(axis=0)
        )
        with np.errstate(divide="ignore"):
            self.largest.add(log_weights[:, None] + np.log(np.abs(values)))
        self.heaviest.add(log_weights, values)

    def estimate(self) -> Estimate:
        """The mean of w f, its standard error, and the checks of support, mean weight and tail."""
        shape: Any = self.integrand.shape
        count = self.terms.count
        smoothed, khat_weights = self.heaviest.smoothed()
        mean, second = self.terms.mean, self.terms.second
        if self.smooth:
            mean, second = self._with(np.exp(smoothed))
        error = np.sqrt(second / (count - 1) / count) if count > 1 else np.full_like(mean, math.nan)
        spread = np.maximum(self.squares / count - mean**2, 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            ess = np.where(spread == 0.0, count, spread / error**2)
        khat = self.largest.khat()
        known = khat[~np.isnan(khat)]
        advice = HEAVIER if self.smooth else f"{HEAVIER}, or take smooth=True"
        tail = check_tail(
            "k-hat of w f", float(known.max(initial=-math.inf)) if known.size else math.nan, self.smooth, advice
        )
        mean_weight, square = (
            float(self.weights.mean),
            float(self.weights.second) / count + float(self.weights.mean) ** 2,
        )
        terms = check_terms(self.terms, "terms w f", self.largest.count == 0)
        evidence = {
            "khat": khat.reshape(shape),
            "khat_weights": khat_weights,
            "ess_weights": count * mean_weight**2 / square if square else 0.0,
            "mean_weight": mean_weight,
            "unreached": self.unreached,
        }
        return Estimate(
            mean.reshape(shape),
            error.reshape(shape),
            count,
            ess.reshape(shape),
            max(count - 1.0, 1.0),
            (
                self.covered,
                *check_mean_weight(self.weights, khat_weights, self.unreached),
                tail,
                *terms,
            ),
            evidence,
        )

    def _with(self, weights: Float64Array) -> tuple[Float64Array, Float64Array]:
        """Mean of the terms and sum of squares about it, with other weights of the draws that are kept."""
        values, centre, count = self.heaviest.values, self.terms.mean, self.terms.count
        before = np.exp(self.heaviest.log_weights)[:, None] * values - centre
        after = weights[:, None] * values - centre
        shift = (after - before).sum(axis=0) / count
        second = self.terms.second + (after**2 - before**2).sum(axis=0) - count * shift**2
        return centre + shift, np.maximum(second, 0.0)
