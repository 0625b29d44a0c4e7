"""Checks of corrected draws."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ppl_models.diagnostics import Check, Moments, check_khat, khat_limit
from ppl_models.diagnostics.khat import KHAT_GOOD
from ppl_models.diagnostics.resampling import Indices, acceptance_rate, longest_stay
from ppl_models.inference.chain_limits import ESS_LIMIT

ERROR_LIMIT = 1.0 / math.sqrt(ESS_LIMIT)
"""Largest standard error of a mean in sds, and of a log sd: that of a mean of 400 independent draws."""
NUM_BOOTSTRAP = 20
ACCEPTANCE_LIMIT = 0.1
STAY_LIMIT = 0.01
"""Largest share of all steps that one draw may stand for: the weight of one draw would then be 1 % or more."""
USE_NUTS = "use method='nuts', or a richer guide"
RAISE = "raise num_draws"
SMOOTH = "use method='psis', whose weights are smoothed, or method='nuts'"


def check_weights(log_ratio: np.ndarray) -> Check:
    """Whether estimates by unsmoothed weights have a variance: k-hat of at most 0.5.

    Args:
        log_ratio: log p - log q in nats, shape (draw,).

    Returns:
        The check `k-hat`. It holds for importance sampling and for independence Metropolis-Hastings alike: means of
        either have a finite asymptotic variance for the same functions, those with a finite E_p[w f²] (Deligiannidis
        and Lee 2018, Which ergodic averages have finite asymptotic variance?, Annals of Applied Probability 28(4)),
        so for bounded ones where the ratios have a second moment under q.

    Raises:
        DataError: the ratios are not one-dimensional.
    """
    found = check_khat(log_ratio, num_bootstrap=NUM_BOOTSTRAP)
    if math.isnan(found.value):
        return replace(found, limit=KHAT_GOOD)
    passed = found.value <= KHAT_GOOD
    advice = "" if passed else SMOOTH if found.value <= khat_limit(len(log_ratio)) else USE_NUTS
    return replace(found, limit=KHAT_GOOD, passed=passed, advice=advice)


def advise(checks: Sequence[Check], advice: str) -> tuple[Check, ...]:
    """The checks, those that did not pass with this advice, the others with none."""
    return tuple(replace(check, advice="" if check.passed is True else advice) for check in checks)


def check_effective(moments: Moments, labels: Sequence[str], *, most: float = math.inf) -> Check:
    """Whether the draws count as 400 independent ones at least, for the mean of each parameter.

    Args:
        moments: of the draws, with their errors.
        labels: of the parameters.
        most: a number that bounds all parameters', such as one over the sum of squared weights.

    Returns:
        The check `effective draws`, of the worst parameter; constants are skipped.
    """
    name = "effective draws"
    if obstacle := _obstacle(moments, labels):
        return Check(name, math.nan, ESS_LIMIT, None, RAISE, detail=obstacle)
    worst = int(np.where(moments.varies, moments.mean_error, -1.0).argmax())
    error = float(moments.mean_error[worst])
    size = 1.0 / error**2 if error > 0.0 else math.inf
    value = min(size, most)
    passed = value >= ESS_LIMIT
    detail = f"worst: {labels[worst]}" if size <= most else "1 / sum of squared weights"
    return Check(name, value, ESS_LIMIT, passed, "" if passed else RAISE, detail=detail)


def check_precision(moments: Moments, labels: Sequence[str]) -> Check:
    """Whether the draws tell every mean, in its sd, and every log sd, to a standard error of 0.05.

    Args:
        moments: of the draws, with their errors.
        labels: of the parameters.

    Returns:
        The check `Monte Carlo error`, of the worst parameter; constants are skipped.
    """
    name = "Monte Carlo error"
    if obstacle := _obstacle(moments, labels):
        return Check(name, math.nan, ERROR_LIMIT, None, RAISE, detail=obstacle)
    errors = np.where(moments.varies, np.maximum(moments.mean_error, moments.log_sd_error), 0.0)
    worst = int(errors.argmax())
    value = float(errors[worst])
    passed = value <= ERROR_LIMIT
    return Check(name, value, ERROR_LIMIT, passed, "" if passed else RAISE, detail=f"worst: {labels[worst]}")


def check_acceptance(path: Indices) -> Check:
    """Whether a chain of independent proposals takes one in ten of them.

    Args:
        path: of `independence_path`, shape (chain, step).
    """
    value = acceptance_rate(path)
    passed = None if math.isnan(value) else value >= ACCEPTANCE_LIMIT
    advice = "" if passed is True else USE_NUTS
    return Check("acceptance", value, ACCEPTANCE_LIMIT, passed, advice, detail=f"of {path.size:,} proposals")


def check_stay(path: Indices) -> Check:
    """Whether no draw holds a chain for more than 1 % of all steps, as one of great weight does.

    Args:
        path: of `independence_path`, shape (chain, step).
    """
    if not path.size:
        return Check("longest stay", math.nan, STAY_LIMIT, None, USE_NUTS, detail="not measured: no steps")
    steps = longest_stay(path)
    value = steps / path.size
    passed = value <= STAY_LIMIT
    advice = "" if passed else USE_NUTS
    return Check("longest stay", value, STAY_LIMIT, passed, advice, detail=f"{steps:,} of {path.size:,} steps")


def _obstacle(moments: Moments, labels: Sequence[str]) -> str:
    """Why nothing can be measured, or an empty text."""
    if not moments.finite.all():
        return f"not measured: draws of {labels[int((~moments.finite).argmax())]} are not finite"
    if not moments.varies.any():
        return "not measured: no parameter varies"
    unknown = moments.varies & (np.isnan(moments.mean_error) | np.isnan(moments.log_sd_error))
    return f"not measured: the error of {labels[int(unknown.argmax())]} is not a number" if unknown.any() else ""
