"""How far each row's bound is from log p(x), and what of it is the encoder's and what the family's fault."""

from collections.abc import Sequence

import numpy as np

from ppl_models.inference.by_datum.nuts import DatumChains, effective_numbers
from ppl_models.inference.evidence.importance_bound import importance_bounds
from ppl_models.workflow.audit.posterior_audit import Array, Estimates, Moments

ROUNDINGS = 64.0
"""Of a sum of many terms."""


def mean_weight(log_weights: Array) -> Estimates:
    """The ELBO of each row: the mean log weight.

    Args:
        log_weights: log p - log q in nats, shape (draw, row), of independent draws.
    """
    with np.errstate(invalid="ignore"):  # a mean of -inf has no error
        return Estimates(log_weights.mean(0), log_weights.std(0, ddof=1) / np.sqrt(len(log_weights)))


def settled(log_weights: Array, resolution: float) -> Array:
    """Log weights, those of a row made equal where they differ by rounding alone: ties have no tail to judge.

    Args:
        log_weights: log p - log q in nats, shape (draw, row).
        resolution: of the numbers that they were computed in.
    """
    with np.errstate(invalid="ignore"):
        same = np.ptp(log_weights, axis=0) <= ROUNDINGS * resolution * (1.0 + np.abs(log_weights).max(0))
        return np.where(same, log_weights.mean(0), log_weights)


def bounds_by_row(log_weights: Array, sizes: Sequence[int]) -> dict[int, Estimates]:
    """Importance weighted bounds L_K of each row, from disjoint groups of the same draws.

    Args:
        log_weights: log p - log q in nats, shape (draw, row), of independent draws.
        sizes: numbers of weights K.
    """
    _, values, errors = importance_bounds(log_weights, 1.0, sizes)
    return {size: Estimates(value, error) for size, value, error in zip(sizes, values, errors, strict=True)}


def amortisation_gap(best: Array, amortised: Array, *, common: bool) -> Estimates:
    """What each row's bound loses because one encoder serves all rows: ELBO of its own best q less that of q(z | x).

    Args:
        best: log weights of the row's own best q, shape (draw, row), nats.
        amortised: log weights of the amortised q, shape (draw, row), nats.
        common: whether the draws were made of the same random numbers, so that errors cancel in the differences.

    Cremer, Li and Duvenaud (2018), Inference suboptimality in variational autoencoders.
    """
    return mean_weight(best - amortised) if common else mean_weight(best).less(mean_weight(amortised))


def compare_moments(chains: DatumChains, guide_mean: Array, guide_sd: Array, guide_draws: int | None) -> Moments:
    """The moments of the amortised q beside those of MCMC draws, with Monte Carlo errors.

    Args:
        chains: the MCMC draws.
        guide_mean: shape (row, unit).
        guide_sd: shape (row, unit).
        guide_draws: independent draws that these were computed from; None where they are exact.
    """
    points = chains.points
    mean, sd = points.mean((0, 1)), points.std((0, 1), ddof=1)
    squares = ((points - mean) / sd) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = 1.0 / effective_numbers(points)
        spread = 0.25 * squares.var((0, 1)) / effective_numbers(squares)
    if guide_draws is not None:
        variance, spread = variance + (guide_sd / sd) ** 2 / guide_draws, spread + 0.5 / guide_draws
    return Moments(
        mean=mean,
        sd=sd,
        guide_mean=guide_mean,
        guide_sd=guide_sd,
        mean_error_sd=(guide_mean - mean) / sd,
        mean_error_sd_error=np.sqrt(variance),
        log_sd_ratio=np.log(guide_sd / sd),
        log_sd_ratio_error=np.sqrt(spread),
    )
