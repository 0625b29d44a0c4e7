"""The health of an evidence by annealing."""

import math

import numpy as np
import torch
from scipy.stats import t as student

from ppl_models.checks import Check
from ppl_models.inference.evidence.reverse_starts import PosteriorDraws
from ppl_models.inference.evidence.tail import check_tail
from ppl_models.inference.evidence.weight_means import effective_number

FEWEST_EFFECTIVE = 10.0
LEAST_ACCEPTANCE = 0.3
WIDEST = 0.5
"""Nats, of a bracket."""
MOST_RHAT = 1.01
FALSE_ALARMS = 1e-3
ENOUGH_FOR_KHAT = 100
MORE = "Take more temperatures, or more leapfrog steps."


def weight_checks(name: str, log_weights: np.ndarray) -> list[Check]:
    """Whether enough chains count, and, with a hundred chains or more, how heavy the tail of their weights is.

    Args:
        name: of the run: "forward" or "reverse".
        log_weights: nats, shape (chain, *datum), whose exponentials are averaged.
    """
    flat = log_weights.reshape(len(log_weights), -1)
    effective = effective_number(flat)
    worst = int(effective.argmin())
    passed = bool(effective[worst] >= FEWEST_EFFECTIVE)
    detail = f"of {len(flat)} chains, at least 10{_where(worst, flat.shape[1])}"
    found = [
        Check(
            f"effective {name} chains",
            float(effective[worst]),
            FEWEST_EFFECTIVE,
            passed,
            "" if passed else MORE,
            detail=detail,
        )
    ]
    if len(flat) >= ENOUGH_FOR_KHAT:
        found.append(check_tail(f"k-hat of {name} weights", flat[:, worst], MORE))
    return found


def check_acceptance(*runs: torch.Tensor) -> Check:
    """Whether the transitions move: the least mean acceptance over temperatures and data.

    Args:
        runs: mean probabilities of acceptance, shape (transition, datum) each.
    """
    least, most = min(float(run.min()) for run in runs), max(float(run.max()) for run in runs)
    passed = least >= LEAST_ACCEPTANCE
    advice = "" if passed else "Take more leapfrog steps, which are shorter, or give the model simpler geometry."
    detail = f"{least:.2f} to {most:.2f} over the temperatures, at least {LEAST_ACCEPTANCE:.2g}"
    return Check("least acceptance", least, LEAST_ACCEPTANCE, passed, advice, detail=detail)


def bracket_checks(
    lower: np.ndarray, upper: np.ndarray, lower_error: np.ndarray, upper_error: np.ndarray, num_chains: int
) -> list[Check]:
    """Whether the two bounds are near each other, and agree within their errors.

    Both estimate the same number if the reverse run began at the posterior and the transitions leave their densities
    invariant; where they differ by more than chance lets them, one of these does not hold, or a run has not seen all.
    """
    with np.errstate(invalid="ignore"):
        width, error = np.ravel(upper - lower), np.ravel(np.hypot(lower_error, upper_error))
    if not (np.isfinite(width).all() and np.isfinite(error).all()):
        lost = "Chains have no weight at all: does the prior reach the data?"
        return [Check(name, math.nan, limit, None, lost) for name, limit in (("bracket", WIDEST), ("agreement", 4.0))]
    widest = int(np.abs(width).argmax())
    narrow = bool(abs(width[widest]) <= WIDEST)
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = np.nan_to_num(np.abs(width) / error, nan=0.0)
    limit = float(student.ppf(1.0 - 0.5 * FALSE_ALARMS / apart.size, num_chains - 1))
    far = int(apart.argmax())
    agree = bool(apart[far] <= limit)
    advice = (
        "The reverse run does not begin at the posterior, or a run misses a part of it. Check the draws, then take "
        "more temperatures."
    )
    return [
        Check(
            "width of the bracket",
            float(width[widest]),
            WIDEST,
            narrow,
            "" if narrow else MORE,
            mcse=float(error[widest]),
            detail=f"nats{_where(widest, width.size)}",
        ),
        Check(
            "forward against reverse",
            float(apart[far]),
            limit,
            agree,
            "" if agree else advice,
            detail=f"difference in standard errors{_where(far, width.size)}",
        ),
    ]


def check_starts(draws: PosteriorDraws) -> list[Check]:
    """Whether draws that are not exact come from chains that have met; nothing to check on exact ones."""
    if draws.exact:
        return []
    name, detail = "R-hat of the reverse run's starts", f"{draws.what}: the upper bound is as good as they are"
    if math.isnan(draws.rhat):
        return [Check(name, math.nan, MOST_RHAT, None, "Give draws of longer chains.", detail=detail)]
    passed = draws.rhat <= MOST_RHAT
    advice = "" if passed else "The chains have not met: sample longer."
    return [Check(name, draws.rhat, MOST_RHAT, passed, advice, detail=detail)]


def _where(index: int, count: int) -> str:
    return f"; worst at datum {index} of {count}" if count > 1 else ""
