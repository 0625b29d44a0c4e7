"""Self-normalised importance sampling: the weighted mean over draws of a proposal, for an unnormalised target."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.distributions import Distribution

from ppl_models.checks import Check
from ppl_models.errors import DataError, OptionError, first_line
from ppl_models.inference.monte_carlo.chunks import chunk_size, chunks
from ppl_models.inference.monte_carlo.fit_source import FitSource
from ppl_models.inference.monte_carlo.heaviest import HEAVIER, Float64Array, LargestTerms, check_tail
from ppl_models.inference.monte_carlo.integrand import Integrand
from ppl_models.inference.monte_carlo.method import Estimate
from ppl_models.inference.monte_carlo.moments import Moments
from ppl_models.inference.monte_carlo.proposals import (
    NUM_PROBES,
    WIDER,
    LogDensity,
    check_covered,
    check_mean_weight,
    check_probed,
    check_proposal,
    check_terms,
    drawn,
    log_density,
    values_where,
)
from ppl_models.inference.monte_carlo.ratio_sums import RatioSums
from ppl_models.inference.monte_carlo.sources import Draws, SamplerSource, Source

MIN_ESS = 50.0
LARGEST = 200.0
"""Nats; beyond, the square and the cube of a term would overflow."""

Weighted = Callable[[int], tuple[Draws, torch.Tensor]]
"""So many draws of the proposal, and their log weights in nats, shape (draw,), up to a constant."""


@dataclass(frozen=True)
class SelfNormalised:
    """Draws of a proposal p, weighted by w = target / p and divided by the sum of the weights.

    The target need not be normalised. q is a function that gives its log density at draws, shape (draw,); or a
    distribution; or a fit, whose guide is then the proposal and whose model's posterior is the target, so that what
    comes out is the guide's estimate corrected. The standard error is the delta method's, with each term's own leverage
    taken out and as many degrees of freedom as the weights have effective draws: without either, a few heavy weights
    pull the mean to themselves and make it look surer than it is. The bias of the ratio, of the order 1 / ESS, stands
    in `evidence`.

    Attributes:
        proposal: a torch or Pyro distribution; None for a fit.
        smooth: whether the largest weights are Pareto-smoothed.

    Vehtari, Simpson, Gelman, Yao and Gabry (2024), Pareto smoothed importance sampling, JMLR 25(72); Owen (2013),
    Monte Carlo theory, methods and examples, chapter 9.
    """

    proposal: Any = None
    smooth: bool = True

    name: ClassVar[str] = "self_normalised"

    def start(self, integrand: Integrand, source: Source, seed: int) -> "SelfNormalisedRun":
        """Begin a run.

        Raises:
            OptionError: there is no target density, or no proposal to draw from, or a fit and a proposal too.
            DataError: the log density fails or has a wrong shape.
        """
        del seed
        if isinstance(source, FitSource):
            if self.proposal is not None:
                raise OptionError("proposal: found one, but with a fit the guide is the proposal. Leave it out.")
            return SelfNormalisedRun(integrand, source, source.draw_weighted, self.smooth, ())
        unreached = None
        distribution = getattr(source, "distribution", None)
        known = distribution if isinstance(distribution, Distribution) else None
        proposal = check_proposal(self.proposal, self.name, known)
        if known is not None:
            target: LogDensity = partial(log_density, known)
            covered, unreached = check_covered(drawn(known, NUM_PROBES), proposal, None)
        elif isinstance(source, SamplerSource):
            target = _checked(source.sampler)
            covered = check_probed(drawn(proposal, NUM_PROBES), proposal, target)
        else:
            raise OptionError(
                f"method='self_normalised': {source.label} has no density. Give q as a function that returns its log "
                "density at draws, a distribution, or a fit."
            )

        def weighted(num_draws: int) -> tuple[Draws, torch.Tensor]:
            draws = drawn(proposal, num_draws)
            return draws, target(draws) - log_density(proposal, draws)

        return SelfNormalisedRun(integrand, source, weighted, self.smooth, (covered,), unreached)


def _checked(log_target: Callable[[Any], Any]) -> LogDensity:
    """The user's log density, with its shape checked."""

    def call(draws: torch.Tensor) -> torch.Tensor:
        try:
            with torch.no_grad():
                found = torch.as_tensor(log_target(draws))
        except Exception as error:
            raise DataError(
                f"q: the log density fails at draws of shape {tuple(draws.shape)}: {first_line(error)}. It must take "
                "draws of the proposal along the first axis and return a tensor of shape (draw,)."
            ) from error
        if found.shape != (len(draws),):
            raise DataError(
                f"q: the log density has shape {tuple(found.shape)} for {len(draws)} draws, wanted ({len(draws)},). "
                "Sum it over the other axes."
            )
        if torch.isposinf(found).any():
            raise DataError("q: the log density is +inf at a draw of the proposal, wanted finite, or -inf for zero.")
        return found

    return call


class SelfNormalisedRun:
    """Weighted draws, and the tail and moments of their terms.

    Args:
        integrand: whose mean is wanted.
        source: of the target.
        weighted: draws of the proposal with their log weights.
        smooth: whether the largest weights are smoothed.
        checks: made before the first draw.
        unreached: share of the target that the proposal does not reach; None where a density is not normalised.
    """

    def __init__(
        self,
        integrand: Integrand,
        source: Source,
        weighted: Weighted,
        smooth: bool,
        checks: tuple[Check, ...],
        unreached: float | None = None,
    ):
        self.integrand, self.source, self.weighted = integrand, source, weighted
        self.smooth, self.checks, self.unreached = smooth, checks, unreached
        self.count = 0
        self.sums, self.largest, self.terms, self.weights = RatioSums(), LargestTerms(), Moments(), Moments()

    def extend(self, num_draws: int) -> None:
        """Draw from the proposal, in chunks."""
        for size in chunks(num_draws, chunk_size(self.source)):
            draws, log_weights = self.weighted(size)
            counted = torch.isfinite(log_weights)
            if self.unreached is not None:
                self.weights.add(torch.where(counted, log_weights.double().clamp(max=LARGEST).exp(), 0.0))
            self.count += size
            if not bool(counted.any()):
                self.sums.heaviest.count += size
                continue
            values = values_where(self.integrand, draws, counted)
            self._add(np.where(counted.cpu().numpy(), log_weights.double().cpu().numpy(), -math.inf), values)

    def _add(self, log_weights: Float64Array, values: Float64Array) -> None:
        centred = self.sums.add(log_weights, values)
        terms = np.exp(np.minimum(log_weights - self.sums.unit, LARGEST))[:, None] * centred
        self.terms.add(torch.from_numpy(terms))
        with np.errstate(divide="ignore"):
            self.largest.add(log_weights[:, None] + np.log(np.abs(centred)))

    def estimate(self) -> Estimate:
        """The weighted mean, its standard error, and the checks of support, tail and effective draws."""
        shape = self.integrand.shape
        if shape is None or not self.sums.centre.size:
            nothing, detail = np.full(shape or (), math.nan), "every draw has zero density under the target"
            failed = Check("effective draws", 0.0, MIN_ESS, False, WIDER, detail=detail)
            return Estimate(nothing, nothing, self.count, nothing, checks=(*self.checks, failed))
        found = self.sums.ratio(self.smooth)
        spread, variance = found.spread, found.variance
        with np.errstate(divide="ignore", invalid="ignore"):
            ess = np.where(variance > 0.0, spread / variance, np.where(spread > 0.0, math.inf, found.ess))
        error = np.sqrt(variance) if self.count > 1 else np.full_like(variance, math.nan)
        khat = np.fmax(self.largest.khat(), found.khat)
        evidence = {
            "khat": khat.reshape(shape),
            "khat_weights": found.khat,
            "ess_weights": found.ess,
            "bias": found.bias.reshape(shape),
        }
        return Estimate(
            found.value.reshape(shape),
            error.reshape(shape),
            self.count,
            ess.reshape(shape),
            max(found.ess - 1.0, 1.0),
            (*self.checks, *self._reached(found.khat), *self._health(khat, found.ess, spread == 0.0)),
            evidence,
        )

    def _reached(self, khat: float) -> tuple[Check, ...]:
        """Whether the weights of normalised densities have mean one; a mode that no draw has found lowers it."""
        return () if self.unreached is None else check_mean_weight(self.weights, khat, self.unreached)

    def _health(self, khat: Float64Array, ess: float, still: NDArray[np.bool_]) -> tuple[Check, ...]:
        worst = float(np.fmax.reduce(khat)) if khat.size else math.nan
        fit = isinstance(self.source, FitSource)
        advice = "take a richer guide, or MCMC" if fit else HEAVIER
        tail = check_tail("k-hat", worst, self.smooth, advice)
        few = ess < MIN_ESS
        detail = f"of {self.count:,} draws, by the weights"
        enough = Check("effective draws", ess, MIN_ESS, not few, "raise num_draws" if few else "", detail=detail)
        return tail, enough, *check_terms(self.terms, "terms w (f - E[f])", still)
