"""Draws resampled by their Pareto-smoothed importance weights."""

import math
from dataclasses import replace

import numpy as np

from ppl_models.diagnostics import Check, Moments, Replicates, check_replicates, replicates
from ppl_models.diagnostics.resampling import resampling_variance, systematic
from ppl_models.seeds import child_seed
from ppl_models.workflow.correction.checks import RAISE, USE_NUTS, advise, check_effective
from ppl_models.workflow.correction.outcome import Outcome, Request
from ppl_models.workflow.correction.proposals import Proposals

NUM_REPLICATES = 4
MOST_PROPOSALS = 200_000
MARGIN = 1.2
"""Times as many proposals as seem to be needed, so that one more round seldom is."""


def correct_by_psis(request: Request) -> Outcome:
    """Resample draws of the fit by Pareto-smoothed weights.

    Proposals are added until they count as at least as many draws as are wanted, so that hardly one comes twice.

    Raises:
        DataError: the weights cannot be computed.

    Vehtari, Simpson, Gelman, Yao and Gabry (2024), Pareto smoothed importance sampling, JMLR 25(72).
    """
    proposals, found, checks = _gather(request)
    places = systematic(found.log_weights, request.num_draws, child_seed(request.seed, "resample"))
    moments = _moments(proposals, found, places)
    effective = check_effective(moments, proposals.labels)
    different = len(np.unique(places))
    effective = replace(effective, detail=f"{effective.detail}; {different:,} different draws")
    attrs = {"correction": "psis", "num_proposals": len(proposals)}
    return Outcome(
        proposals.tree(places[None], {}, attrs),
        moments,
        found.raw,
        proposals.labels,
        _advised((*checks, effective)),
        len(proposals),
        found.log_weights,
    )


def _gather(request: Request) -> tuple[Proposals, Replicates, tuple[Check, ...]]:
    """Proposals, more of them while that may settle the moments."""
    proposals = request.pilot
    while True:
        found = _replicates(proposals)
        khat, precision, correction = checks = check_replicates(found)
        wanted = _wanted(request, proposals, found, precision)
        hopeless = not (khat.passed and correction.passed)
        more = wanted - len(proposals)
        if more <= 0 or hopeless or not request.affords(more):
            return proposals, found, checks
        proposals = proposals.and_more(request.propose(more, f"up to {wanted:,} proposals"))


def _wanted(request: Request, proposals: Proposals, found: Replicates, precision: Check) -> int:
    """How many proposals there should be: a multiple of the number of replicates."""
    short = request.num_draws / found.num_effective
    if not precision.passed and math.isfinite(precision.value):
        short = max(short, (precision.value / precision.limit) ** 2)
    if short <= 1.0:
        return len(proposals)
    most = max(len(proposals), min(MOST_PROPOSALS, proposals.most))
    wanted = min(most, max(2 * len(proposals), math.ceil(MARGIN * short * len(proposals))))
    return wanted // NUM_REPLICATES * NUM_REPLICATES


def _replicates(proposals: Proposals) -> Replicates:
    values = proposals.matrix.reshape(NUM_REPLICATES, -1, proposals.matrix.shape[1])
    return replicates(values, proposals.log_ratio.reshape(NUM_REPLICATES, -1))


def _moments(proposals: Proposals, found: Replicates, places: np.ndarray) -> Moments:
    """Moments of the draws resampled, and their errors: those of the weighted draws, and of resampling."""
    weights = np.exp(found.log_weights)
    chosen = proposals.matrix[places]
    count = resampling_variance(found.log_weights, len(places)) - (weights / weights.sum()) ** 2
    corrected = found.corrected
    values = np.where(weights[:, None] > 0.0, proposals.matrix, corrected.mean)
    sd = np.where(corrected.varies, corrected.sd, np.inf)
    squares = ((values - corrected.mean) / sd) ** 2
    mean_error = np.sqrt(corrected.mean_error**2 + count @ squares)
    log_sd_error = np.sqrt(corrected.log_sd_error**2 + 0.25 * (count @ (squares - 1.0) ** 2))
    return Moments(chosen.mean(axis=0), chosen.std(axis=0), mean_error, log_sd_error)


def _advised(checks: tuple[Check, ...]) -> tuple[Check, ...]:
    khat, _, correction, _ = checks
    settled = khat.passed is True and correction.passed is True
    return advise(checks, f"{RAISE} or max_seconds; else {USE_NUTS}" if settled else USE_NUTS)
