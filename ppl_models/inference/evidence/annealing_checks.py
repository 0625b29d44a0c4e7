"""The health of an evidence by annealing."""

import math

import numpy as np
import torch
from scipy.stats import t as student

from ppl_models.checks import Check
from ppl_models.inference.evidence.reverse_starts import PosteriorDraws
from ppl_models.inference.evidence.tail import check_tail
from ppl_models.inference.evidence.weight_means import effective_number

FEWEST_EFFECTIVE = 20.0
LEAST_SHARE = 0.5
"""Of the chains. With fewer the weights are so skewed that the interval, of Student's t, is too short."""
HOPELESS = 10.0
LEAST_ACCEPTANCE = 0.3
WIDEST = 0.5
"""Nats, of a bracket."""
MOST_RHAT = 1.01
FALSE_ALARMS = 1e-3
ENOUGH_FOR_KHAT = 100
MORE = "Take more temperatures, or more leapfrog steps."


def weight_checks(name: str, log_weights: np.ndarray) -> list[Check]:
    """Whether enough chains count: 20 and half of them. Below 10 they do not, and between the error is not known.

    With a hundred chains or more, also how heavy the tail of their weights is.

    Args:
        name: of the run: "forward" or "reverse".
        log_weights: nats, shape (chain, *datum), whose exponentials are averaged.
    """
    flat = log_weights.reshape(len(log_weights), -1)
    effective = effective_number(flat)
    worst = int(effective.argmin())
    limit = max(FEWEST_EFFECTIVE, LEAST_SHARE * len(flat))
    passed = True if effective[worst] >= limit else False if effective[worst] < HOPELESS else None
    advice = MORE if len(flat) >= 2.0 * FEWEST_EFFECTIVE else f"Take more chains: 64, say. {MORE}"
    detail = f"of {len(flat)} chains{_where(worst, flat.shape[1])}"
    found = [
        Check(
            f"effective {name} chains",
            float(effective[worst]),
            limit,
            passed,
            "" if passed else advice,
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
    if not np.isfinite(width).all():
        lost = "Chains have no weight at all: does the prior reach the data?"
        return [Check(name, math.nan, limit, None, lost) for name, limit in (("bracket", WIDEST), ("agreement", 4.0))]
    widest = int(np.abs(width).argmax())
    narrow = bool(abs(width[widest]) <= WIDEST)
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = np.nan_to_num(np.abs(width) / error, nan=0.0)
    limit = float(student.ppf(1.0 - 0.5 * FALSE_ALARMS / apart.size, num_chains - 1))
    far = int(apart.argmax())
    known = bool(np.isfinite(error).all())
    agree = bool(apart[far] <= limit) if known else None
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
            float(apart[far]) if known else math.nan,
            limit,
            agree,
            advice if agree is False else "",
            detail=f"difference in standard errors{_where(far, width.size)}" if known else "an error is unknown",
        ),
    ]


def check_starts(draws: PosteriorDraws | None, num_chains: int) -> list[Check]:
    """Whether the reverse run began at draws of the posterior, one for each chain; MCMC draws by their R-hat."""
    if draws is None:
        advice = "Give draws of the posterior (draws=ppl.sample(model, data)): without, a part that both runs miss is "
        detail = "none were given: the forward run's own ends"
        return [Check("reverse starts", math.nan, math.nan, None, f"{advice}not seen.", detail=detail)]
    found = _check_shared(draws, num_chains) if draws.shared(num_chains) else []
    return found if draws.exact else [*found, _check_rhat(draws)]


def _check_shared(draws: PosteriorDraws, num_chains: int) -> list[Check]:
    count = len(draws.points)
    detail = f"draws for {num_chains} reverse chains, which are not independent: the error is the forward run's alone"
    advice = f"Give {num_chains} draws of the posterior for an error of the upper bound."
    return [Check("reverse starts", count, num_chains, None, advice, detail=detail)]


def _check_rhat(draws: PosteriorDraws) -> Check:
    name, detail = "R-hat of the reverse run's starts", f"{draws.what}: the upper bound is as good as they are"
    if math.isnan(draws.rhat):
        return Check(name, math.nan, MOST_RHAT, None, "Give draws of longer chains.", detail=detail)
    passed = draws.rhat <= MOST_RHAT
    advice = "" if passed else "The chains have not met: sample longer."
    return Check(name, draws.rhat, MOST_RHAT, passed, advice, detail=detail)


def _where(index: int, count: int) -> str:
    return f"; worst at datum {index} of {count}" if count > 1 else ""
