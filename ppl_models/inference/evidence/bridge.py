"""Bridge sampling's identity: the ratio of two normalising constants from draws of both densities."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from arviz_stats.base import array_stats
from scipy.special import expit

MOST_ITERATIONS = 1_000
TOLERANCE = 1e-10
"""Nats by which the estimate may still move when the iteration stops."""


@dataclass(frozen=True)
class Bridge:
    """The optimal bridge between a posterior and a proposal, at its fixed point.

    Attributes:
        log_evidence: nats.
        standard_error: of `log_evidence`, nats.
        iterations: until it stood still.
        moved: by how many nats the last iteration moved it.
        overlap: integral of p q / (s p + (1 - s) q), from 0 (apart) to 1 (the same density), where s is the posterior
            draws' share.
        effective_posterior: effective number of posterior draws behind the estimate, from their autocorrelation.
        effective_proposal: effective number of draws of the proposal behind it, from the spread of their terms.
    """

    log_evidence: float
    standard_error: float
    iterations: int
    moved: float
    overlap: float
    effective_posterior: float
    effective_proposal: float


def bridge(log_ratio_posterior: np.ndarray, log_ratio_proposal: np.ndarray) -> Bridge:
    """Log normalising constant of a posterior, by Meng and Wong's optimal bridge to a proposal.

    With l the ratio of the unnormalised posterior to the proposal, the estimate r is where the mean over the proposal
    of f = l / (s l + (1 - s) r) meets r times the mean over the posterior of g = 1 / (s l + (1 - s) r). Here s is the
    posterior's share of the draws, effective ones. The squared error of log r is the sum of those of log mean f, from
    independent draws, and of log mean g, from chains with their autocorrelation.

    Args:
        log_ratio_posterior: log l in nats at posterior draws, shape (chain, draw).
        log_ratio_proposal: log l in nats at independent draws of the proposal, shape (draw,); -inf where the posterior
            has no density.

    Returns:
        The estimate with its error and health; log evidence -inf and error NaN where no draw of the proposal has
        density under the posterior.

    Meng and Wong (1996), Simulating ratios of normalizing constants via a simple identity, Statistica Sinica 6;
    Fruehwirth-Schnatter (2004), Estimating marginal likelihoods for mixture and Markov switching models, Econometrics
    Journal 7 (error); Gronau et al. (2017), A tutorial on bridge sampling, Journal of Mathematical Psychology 81.
    """
    chains, proposed = np.asarray(log_ratio_posterior, dtype=float), np.asarray(log_ratio_proposal, dtype=float)
    if not np.isfinite(proposed).any():
        return Bridge(-math.inf, math.nan, 0, math.nan, 0.0, math.nan, 0.0)
    # the share asks for effective draws of a function that needs an estimate, and any share gives one
    share = chains.size / (chains.size + len(proposed))
    log_r, _, _ = _fixed_point(chains, proposed, share)
    effective = _effective_draws(_posterior_side(chains, log_r, share))
    share = effective / (effective + len(proposed))
    log_r, iterations, moved = _fixed_point(chains, proposed, share)
    above, below = _proposal_side(proposed, log_r, share), _posterior_side(chains, log_r, share)
    effective = _effective_draws(below)
    squared = _relative_variance(above) / len(proposed) + _relative_variance(below) / effective
    return Bridge(
        log_evidence=log_r,
        standard_error=math.sqrt(squared),
        iterations=iterations,
        moved=moved,
        overlap=float(above.mean()),
        effective_posterior=effective,
        effective_proposal=len(proposed) / (1.0 + _relative_variance(above)),
    )


def _fixed_point(chains: np.ndarray, proposed: np.ndarray, share: float) -> tuple[float, int, float]:
    """Log r in nats, the iterations that it took, and by how much the last one moved it."""
    log_r, change, iteration = float(np.median(chains)), math.inf, 0
    while iteration < MOST_ITERATIONS and abs(change) > TOLERANCE:
        with np.errstate(divide="ignore"):
            above = np.log(_proposal_side(proposed, log_r, share).mean())
            below = np.log(_posterior_side(chains, log_r, share).mean())
        change, iteration = float(above - below), iteration + 1
        if not math.isfinite(change):  # rounded to nothing on one side: go nearer to that side
            change = float(np.max(proposed if change < 0.0 else -chains) * (1.0 if change < 0.0 else -1.0)) - log_r
        log_r += change
    return log_r, iteration, abs(change)


def _proposal_side(log_ratio: np.ndarray, log_r: float, share: float) -> np.ndarray:
    """The posterior's p / (s p + (1 - s) q), which lies between 0 and 1 / s."""
    return expit(log_ratio - log_r + math.log(share / (1.0 - share))) / share


def _posterior_side(log_ratio: np.ndarray, log_r: float, share: float) -> np.ndarray:
    """The proposal's q / (s p + (1 - s) q), which lies between 0 and 1 / (1 - s)."""
    return expit(log_r - log_ratio - math.log(share / (1.0 - share))) / (1.0 - share)


def _relative_variance(values: np.ndarray) -> float:
    """Variance over squared mean; infinite where all is rounded to nothing."""
    mean = values.mean()
    return float(values.var(ddof=1) / mean**2) if mean > 0.0 else math.inf


def _effective_draws(values: np.ndarray) -> float:
    """Effective number of draws of chains (chain, draw); their number where the values do not vary."""
    if np.ptp(values) <= 1e-12 * np.abs(values).max():
        return float(values.size)
    effective: Any = array_stats.ess(values, chain_axis=0, draw_axis=1, method="mean")
    found = float(effective)
    return found if math.isfinite(found) else float(values.size)
