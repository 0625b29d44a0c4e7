"""The evidence of a model by bridge sampling, between its MCMC draws and a fit of them or of its own."""

import time

import numpy as np
import xarray as xr

from ppl_models.engine import Target
from ppl_models.errors import DataError, OptionError
from ppl_models.inference.evidence.bridge import Bridge, bridge
from ppl_models.inference.evidence.bridge_checks import bridge_checks
from ppl_models.inference.evidence.posterior_points import posterior_points
from ppl_models.inference.evidence.result import CONFIDENCE, Evidence
from ppl_models.inference.evidence.warps import WARPS
from ppl_models.inference.evidence.weight_means import interval
from ppl_models.inference.fit_result import Fit
from ppl_models.inference.proposal import Proposal, proposal_of
from ppl_models.options import check_choice, check_count
from ppl_models.program import Program
from ppl_models.seeds import check_seed, child_seed
from ppl_models.versions import versions

FEWEST_PROPOSALS = 100
MANY = 1_000_000
"""Degrees of freedom that make Student's t a normal."""


def bridge_evidence(
    program: Program,
    draws: xr.DataTree,
    *,
    proposal: Fit | str = "normal",
    num_proposals: int | None = None,
    seed: int = 0,
) -> Evidence:
    """Log evidence from posterior draws, bridged to a density that can be drawn from.

    Args:
        program: the model with its data and learnt parameters.
        draws: posterior draws of it, as `ppl_models.sample` gives them.
        proposal: a fit of the model, whose guide all draws are bridged to; or what is fitted to the first half of each
            chain, unconstrained, and bridged to the second half: "normal" or "t" (heavier tails).
        num_proposals: draws of the proposal, at least 100; None takes as many as there are posterior draws to bridge.
        seed: seed of the draws of the proposal.

    Returns:
        The estimate with its error and health.

    Raises:
        OptionError, UnknownNameError: an option is out of its range; the fit's guide has no density at given points, or
            is of a model with other latents.
        DataError: the draws are of other parameters or other data.
    """
    began = time.perf_counter()
    check_seed(seed)
    points = posterior_points(program, draws)
    other, name, bridged = _other_end(program, proposal, points)
    count = bridged.shape[0] * bridged.shape[1] if num_proposals is None else num_proposals
    check_count("num_proposals", count, least=FEWEST_PROPOSALS)
    proposed = other.draw(count, child_seed(seed, "bridge"))
    with program.isolated(seed=0, num_threads=1):
        target = Target(program)
        at_posterior = target.values(bridged.reshape(-1, program.num_dims))
        at_proposed = target.values(proposed)
    if not np.isfinite(at_posterior).all():
        number = int((~np.isfinite(at_posterior)).sum())
        raise DataError(
            f"draws: the model has no density at {number} of {at_posterior.size}. Sample the model and data given here."
        )
    posterior_side = (at_posterior - other.log_prob(bridged.reshape(-1, program.num_dims))).reshape(bridged.shape[:2])
    proposal_side = at_proposed - other.log_prob(proposed)
    config = {
        "method": "bridge",
        "proposal": name,
        "num_proposals": count,
        "num_posterior": int(posterior_side.size),
        "seed": seed,
        "versions": versions(),
    }
    found = bridge(posterior_side, proposal_side)
    return _evidence(found, posterior_side, proposal_side, config, time.perf_counter() - began)


def _other_end(program: Program, proposal: Fit | str, points: np.ndarray) -> tuple[Proposal, str, np.ndarray]:
    """The density at the other end, its name, and the posterior draws that are bridged to it, (chain, draw, dim)."""
    if not isinstance(proposal, Fit):
        if not isinstance(proposal, str):
            raise OptionError(f"proposal: found {type(proposal).__name__}, wanted a fit from ppl.fit, 'normal' or 't'.")
        fit_to = WARPS[check_choice("proposal", proposal, WARPS)]
        half = points.shape[1] // 2
        return fit_to(points[:, :half].reshape(-1, points.shape[2])), proposal, points[:, half:]
    theirs, ours = ({name: shape for name, (_, shape) in one.slices.items()} for one in (proposal.program, program))
    if theirs != ours:
        raise OptionError(f"proposal: a fit of a model with latents {sorted(theirs)}, wanted {sorted(ours)}.")
    found = proposal_of(proposal)
    if found is None:
        raise OptionError(
            f"proposal: guide '{proposal.guide_name}' has no density at given points, which a bridge needs. Take a fit "
            "by 'normal', 'full_rank' or a flow, or proposal='normal', which is fitted to half of the draws."
        )
    return found, proposal.guide_name, points


def _evidence(
    found: Bridge, posterior_side: np.ndarray, proposal_side: np.ndarray, config: dict[str, object], seconds: float
) -> Evidence:
    estimate, error = np.array(found.log_evidence), np.array(found.standard_error)
    return Evidence(
        method="bridge",
        log_evidence=estimate,
        standard_error=error,
        interval=interval(estimate, error, MANY, CONFIDENCE),
        lower=None,
        upper=None,
        num_draws=posterior_side.size + proposal_side.size,
        checks=bridge_checks(found, posterior_side, proposal_side),
        config=config,
        seconds=seconds,
    )
