"""The posterior seen from elsewhere: a guide's draws pooled with those of Pathfinder runs that began at prior draws."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ppl_models.diagnostics import Check, Replicates, Verdict, check_others, check_replicates, replicates
from ppl_models.diagnostics.replicates import POOLED_ERROR_LIMIT
from ppl_models.errors import PPLError
from ppl_models.inference import Fit
from ppl_models.inference.methods import METHODS
from ppl_models.inference.methods.approximations import Mixture
from ppl_models.inference.methods.running import run_method
from ppl_models.inference.proposal import Proposal, proposal_of
from ppl_models.inference.t_mixture import TMixture
from ppl_models.seeds import child_seed
from ppl_models.workflow.measuring import Flat, Measured
from ppl_models.workflow.weighing import NUM_REPLICATES, Draws, Pool, pool

PATHFINDER = METHODS["pathfinder"]
MOST_LATENTS = 300
"""Beyond, Pathfinder takes longer than many a fit, and mixtures of t's weigh no draws."""
MOST_SECONDS = 120.0
"""A stop for targets that take minutes; where it is reached, a verdict depends on the machine."""
LEAST_SHARE = 0.02
NUM_DRAWS = 4_000
"""Draws of each proposal in the pool."""
MOST_ROUNDS = 2
BOUNDED = 20.0
"""Times the mean: thousands of draws with a k-hat of 0.3 have a heaviest one of about this weight."""
WEIGHTS, PRECISION, OTHERS = "pooled k-hat", "pooled error", "other starts"


@dataclass(frozen=True)
class Probed:
    """What proposals from elsewhere say.

    Attributes:
        pool: the guide's draws and theirs, weighted to the posterior; None where there are none.
        checks: whether the pool's weights are reliable, and whether it agrees with the guide's own weighted draws.
    """

    pool: Pool | None = field(repr=False)
    checks: tuple[Check, ...]

    @property
    def reliable(self) -> bool:
        """Whether the pool's moments are known well enough to judge by."""
        return self.pool is not None and _reliable(self.pool)


def unprobed(why: str) -> Probed:
    """What is known where nothing could be probed."""
    detail = f"not measured: {why}"
    return Probed(None, (Check(OTHERS, np.nan, np.nan, None, "judge it against a baseline", detail=detail),))


def probe(measured: Measured, flat: Flat, *, weighable: bool, seed: int) -> Probed:
    """Pool a guide's draws with those of a Pathfinder run and of t's, and see whether they agree.

    The pool holds draws of the guide, where its density is known at any point, of a multivariate t with their moments,
    and of the normals that Pathfinder finds, with t tails. Each draw is weighted by the posterior density over that of
    the mixture of all, so that no weight is larger than what the guide alone would give it times the number of
    proposals (Owen and Zhou 2000, Safe and effective importance sampling), and what another proposal has found, and the
    guide has not, comes in with its mass. While the weights are unreliable, a t with the moments of the weighted draws
    is added, at most twice, and all proposals but the guide are drawn from afresh (Cornuet, Marin, Mira and Robert
    2012, Adaptive multiple importance sampling).

    Args:
        measured: draws of the guide.
        flat: the same, unconstrained.
        weighable: whether the guide's own weights are reliable: only then can they disagree with the pool.
        seed: of everything random.
    """
    program = measured.fit.program
    if program.num_dims > MOST_LATENTS:
        return unprobed(f"{program.num_dims:,} latents, at most {MOST_LATENTS} are probed")
    found = _pathfinder(flat, seed)
    if found is None:
        return unprobed("Pathfinder found no normal anywhere")
    own = proposal_of(measured.fit)
    drawn = [_own(measured, flat, own)] if own else []
    proposals = [TMixture.around(flat.points), found]
    pooled = pool([*drawn, *_all_drawn(proposals, flat, seed)])
    for number in range(MOST_ROUNDS):
        if pooled is None or _reliable(pooled):
            break
        proposals.append(TMixture.around(pooled.starts(NUM_DRAWS, child_seed(seed, f"adapted {number}"))))
        # draws that have shaped a proposal are not independent of it
        pooled = pool([*drawn, *_all_drawn(proposals, flat, child_seed(seed, f"round {number}"))])
    if pooled is None:
        return unprobed("the posterior density is zero at the draws")
    return Probed(pooled, (*_reliability(pooled), _agreement(measured, pooled, weighable)))


def pool_of(fit: Fit, verdict: Verdict) -> Pool | None:
    """The pool that a verdict was reached against, drawn again from the verdict's own seed.

    Args:
        fit: what was judged.
        verdict: says against what, with how many draws, and with which seed.

    Returns:
        The pool; None where the verdict was reached against something else.
    """
    if verdict.reference != "pool":
        return None
    seed = verdict.config["seed"]
    measured = Measured.of(fit, verdict.config["num_draws"], seed)
    flat = Flat.of(measured)
    if isinstance(flat, str):
        return None
    return probe(measured, flat, weighable=False, seed=child_seed(seed, "probe")).pool


def _all_drawn(proposals: Sequence[TMixture], flat: Flat, seed: int) -> list[Draws]:
    return [_drawn(proposal, flat, child_seed(seed, f"proposal {place}")) for place, proposal in enumerate(proposals)]


def _reliable(pooled: Pool) -> bool:
    return all(check.passed is True for check in _reliability(pooled))


def _reliability(pooled: Pool) -> tuple[Check, Check]:
    """Whether the pool's weights can be relied on, and its moments are known well enough to judge by."""
    khat, precision, _ = check_replicates(pooled.found)
    if pooled.found.heaviest <= BOUNDED:
        # where modes of different weight lie apart, the largest weights are a lump that no Pareto tail fits
        detail = f"no draw weighs more than {pooled.found.heaviest:.1f} times the mean"
        khat = replace(khat, passed=True, detail=detail)
    known = True if precision.value <= POOLED_ERROR_LIMIT else None  # what is not known is no fault of the guide's
    return (
        replace(khat, name=WEIGHTS, passed=khat.passed or None, advice=""),
        replace(precision, name=PRECISION, limit=POOLED_ERROR_LIMIT, passed=known, advice=""),
    )


def _pathfinder(flat: Flat, seed: int) -> TMixture | None:
    program = flat.scale.program
    try:
        with program.isolated(seed=child_seed(seed, "probe"), num_threads=1):
            found, _ = run_method(
                PATHFINDER,
                program,
                PATHFINDER.defaults,
                guide=None,
                initial=None,
                seed=child_seed(seed, "probe"),
                max_steps=None,
                deadline=time.perf_counter() + MOST_SECONDS,
                update=lambda *_: None,
                target=flat.scale.target,
            )
    except PPLError:
        return None
    mixture = found.approximation
    assert isinstance(mixture, Mixture)
    usable = all(np.isfinite(normal.mean).all() and np.isfinite(normal.root).all() for normal in mixture.normals)
    # a mode that was found keeps a share: its weight is known from few draws, and the pool weighs it anew
    weights = np.where(mixture.weights > 0.0, np.maximum(mixture.weights, LEAST_SHARE), 0.0)
    return TMixture.of(Mixture(weights, mixture.normals)) if usable else None


def _own(measured: Measured, flat: Flat, guide: Proposal) -> Draws:
    count = min(NUM_DRAWS, len(flat.points)) // NUM_REPLICATES * NUM_REPLICATES
    points = flat.points[:count]
    log_p = flat.scale.log_density(points)
    return _shaped(guide, points, measured.values[:count], log_p, log_p - measured.log_ratio[:count])


def _drawn(proposal: Proposal, flat: Flat, seed: int) -> Draws:
    points = proposal.draw(NUM_DRAWS // NUM_REPLICATES * NUM_REPLICATES, seed)
    log_p = flat.scale.log_density(points)
    with np.errstate(all="ignore"):
        values = flat.scale.values(points)
    usable: Any = np.isfinite(values).all(axis=1)
    log_p = np.where(usable, log_p, -np.inf)
    return _shaped(proposal, points, np.where(usable[:, None], values, 0.0), log_p, proposal.log_prob(points))


def _shaped(guide: Proposal, points: np.ndarray, values: np.ndarray, log_p: np.ndarray, log_q: np.ndarray) -> Draws:
    shape = (NUM_REPLICATES, -1)
    return Draws(
        guide,
        points.reshape(*shape, points.shape[1]),
        values.reshape(*shape, values.shape[1]),
        log_p.reshape(shape),
        log_q.reshape(shape),
    )


def _agreement(measured: Measured, pooled: Pool, weighable: bool) -> Check:
    if not weighable:
        detail = "not measured: the guide's own weights are not known to be reliable"
        return Check(OTHERS, np.nan, np.nan, None, "a guide with several modes", detail=detail)
    count = len(measured.log_ratio) // NUM_REPLICATES * NUM_REPLICATES
    values = measured.values[:count].reshape(NUM_REPLICATES, -1, len(measured.labelled.labels))
    own: Replicates = replicates(values, measured.log_ratio[:count].reshape(NUM_REPLICATES, -1))
    return check_others(own.corrected, pooled.moments, measured.labelled.labels)
