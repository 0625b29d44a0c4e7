"""Whether independent starts of one fit agree."""

import math
from collections.abc import Sequence

import numpy as np

from ppl_models.checks import Check
from ppl_models.diagnostics.iterates import unmeasured
from ppl_models.diagnostics.moments import RESOLUTION
from ppl_models.diagnostics.optimisation import ABSOLUTE_LIMIT, LIMIT_REACHED, SUCCESS
from ppl_models.errors import DataError

AWAY_LIMIT = 0.2
"""In posterior sds: what a mean may be off by."""


def check_starts(
    away: Sequence[float],
    statuses: Sequence[str],
    elbos: Sequence[float],
    *,
    tolerance: float = ABSOLUTE_LIMIT,
    error: float = 0.0,
) -> Check:
    """Whether independent starts of one fit agree.

    Modes that a guide fits equally well hold probability in proportion to exp(ELBO): a start that ended D nats below
    the one kept and d sds away stands for a mode that would move the mean by d / (1 + exp(D)) sds. It counts with d
    times 2 / (1 + exp(D)), which is d itself for an ELBO that is as good: two answers to one question. D is taken
    without the tolerance.

    Args:
        away: largest distance of a latent's mean from that of the fit kept, in posterior sds of that fit, one per
            start; 0 for the fit kept.
        statuses: how each start ended.
        elbos: of each start at its end, in nats.
        tolerance: nats that starts may differ by.
        error: Monte Carlo standard error of the distances, in sds; the largest of many latents exceeds it by chance.

    Returns:
        The check `starts`, whose value is the largest distance so weighted, in posterior sds; its limit is 0.2, and
        three errors where that is more. It also fails where another start has a better ELBO than the one kept by more
        than the tolerance. Starts that diverged are left out; not passed and not failed are fewer than two others,
        starts that are far away but had not arrived by their own account, and starts that all ended at a worse ELBO.

    Raises:
        DataError: lengths that differ, or no start with a distance of zero.
    """
    if not len(away) == len(statuses) == len(elbos):
        raise DataError(
            f"starts: {len(away)} distances, {len(statuses)} statuses and {len(elbos)} ELBOs; one per start."
        )
    distances, bounds = np.asarray(away, dtype=float), np.asarray(elbos, dtype=float)
    limit = max(AWAY_LIMIT, RESOLUTION * error)
    usable = np.array([status in SUCCESS | LIMIT_REACHED for status in statuses], dtype=bool)
    usable &= np.isfinite(distances) & np.isfinite(bounds)
    if usable.sum() < 2:
        return unmeasured("starts", limit, f"{usable.sum()} of {len(away)} starts gave an ELBO, needs two")
    zero = np.flatnonzero(usable & (distances == 0.0))
    if not zero.size:
        raise DataError("starts: no start is 0 sds away, needs the fit kept among them. Pass all of fit.starts.")
    kept = int(zero[bounds[zero].argmax()])
    others = np.flatnonzero(usable & (np.arange(len(distances)) != kept))
    behind = np.maximum(bounds[kept] - bounds[others] - tolerance, 0.0)
    weighted = distances[others] * 2.0 / (1.0 + np.exp(np.minimum(behind, 700.0)))
    worst = int(weighted.argmax())
    value, start = float(weighted[worst]), others[worst]
    detail = (
        f"{len(others) + 1} starts; one ended {distances[start]:.2g} posterior sds away, its ELBO {bounds[start]:,.2f} "
        f"against {bounds[kept]:,.2f} nats"
    )
    better = float(bounds[others].max() - bounds[kept])
    if better > tolerance:
        detail = f"another start reached an ELBO that is {better:.2g} nats better; {detail}"
        return Check("starts", value, limit, False, "keep the start with the best ELBO", error or math.nan, detail)
    if value > limit:
        passed = False if statuses[start] in SUCCESS and statuses[kept] in SUCCESS else None
        detail += "" if passed is False else f", but not both had arrived ({statuses[start]}, {statuses[kept]})"
    else:
        passed = True if (behind == 0.0).any() else None
        detail += "" if passed else "; no other start reached that ELBO"
    advice = {True: "", False: "a guide with several modes (mixture)", None: "raise max_steps, more starts"}[passed]
    return Check("starts", value, limit, passed, advice, error or math.nan, detail)
