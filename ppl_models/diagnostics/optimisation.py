"""Whether the optimiser had arrived: the loss trace and the status of a fit."""

import math

import numpy as np
from arviz_stats.base import array_stats
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm
from scipy.stats import t as student_t

from ppl_models.checks import Check
from ppl_models.errors import DataError

MIN_STEPS = 100
ABSOLUTE_LIMIT = 0.1  # nats: half of a posterior's own sd in one mean costs 0.125
ROUNDING = 1e-9  # of the loss; double precision summed over many terms
SINGLE_ROUNDING = 1e-6
SUCCESS = frozenset({"converged", "success", "ok"})
LIMIT_REACHED = frozenset({"max_steps", "out_of_time", "completed", "finished"})

Float64Array = NDArray[np.float64]


def check_stationarity(
    losses: ArrayLike, *, start: int | None = None, stop: int | None = None, single_precision: bool = False
) -> Check:
    """Whether the ELBO had stopped improving when the fit ended.

    The second half of the trace is cut into two windows of equal length. The improvement is the mean loss of the
    first window less that of the last, and its standard error takes the autocorrelation of the noise into account:
    the effective sample size of the windows after the linear trend of each is removed, lest the trend pass for noise.
    Few effective steps widen "two standard errors" to the Student t quantile of the same probability.

    Args:
        losses: negative ELBO in nats, one per step, shape (step,); noisy.
        start: first step of the phase with a constant step size; None for the beginning.
        stop: step after the last of that phase; None for the end.
        single_precision: whether the losses were summed in float32.

    Returns:
        The check `stationarity`: value is the improvement in nats per window. Its limit is 0.1 nat, below which less
        than half a posterior sd of one mean can be at stake, and the rounding of the losses (1e-9 of them; 1e-6 in
        single precision), so that the normalising constant of the posterior does not matter. It passes if the
        improvement is below the limit even with two standard errors added, and the loss has not risen by more than
        the limit. It fails for an improvement beyond the limit and two standard errors, for a rise beyond the limit
        and three, and for NaN or infinite losses. Anything else is too noisy to tell, and fewer than 100 steps cannot
        be judged (`passed` is None).

    Raises:
        DataError: the losses are not one-dimensional.
    """
    trace = np.asarray(losses, dtype=float)
    if trace.ndim != 1:
        raise DataError(f"losses: shape {trace.shape}, needs (step,). Average over particles first.")
    trace = trace[slice(start, stop)]
    bad = ~np.isfinite(trace)
    if bad.any():
        detail = f"{bad.sum()} of {trace.size} losses are NaN or infinite, the first at step {bad.argmax()}"
        return Check(
            "stationarity", math.nan, ABSOLUTE_LIMIT, False, "lower step_size, other initial values", detail=detail
        )
    if trace.size < MIN_STEPS:
        detail = f"{trace.size} steps, needs at least {MIN_STEPS}"
        return Check("stationarity", math.nan, ABSOLUTE_LIMIT, None, "raise max_steps", detail=detail)
    length = trace.size // 4
    previous, last = trace[-2 * length : -length], trace[-length:]
    improvement = float(previous.mean() - last.mean())
    error, num_effective = _noise(previous, last)
    two, three = (float(student_t.isf(norm.sf(z), num_effective - 4.0)) for z in (2.0, 3.0))
    rounding = SINGLE_ROUNDING if single_precision else ROUNDING
    limit = ABSOLUTE_LIMIT + rounding * float(np.abs(trace).max())
    detail = f"mean loss {previous.mean():.6g} -> {last.mean():.6g} over windows of {length:,} steps"
    if improvement > max(limit, two * error):
        return Check("stationarity", improvement, limit, False, "still improving: raise max_steps", error, detail)
    if -improvement > max(limit, three * error):
        return Check("stationarity", improvement, limit, False, "the loss rises: lower step_size", error, detail)
    if -improvement > limit or improvement + two * error > limit:
        noisy = f"{detail}, too noisy to tell"
        return Check("stationarity", improvement, limit, None, "more particles or more steps", error, noisy)
    return Check("stationarity", improvement, limit, True, "", error, detail)


def check_arrival(gain: float, error: float, gap: float, tolerance: float = 0.0) -> Check:
    """Whether an optimisation that lowers its step size in stages had nothing more to gain.

    Args:
        gain: nats by which the ELBO at the mean of the last stage's iterates exceeded the best before, both estimated
            on common noise.
        error: its standard error.
        gap: nats that averaging the last stage longer would still have gained, as estimated from its quarters.
        tolerance: nats that the optimisation was content to leave; twice that is the limit where it is more than 0.1.

    Returns:
        The check `stationarity`, whose value is the gain of the last stage and the gap behind it, in nats.
    """
    value = max(gain, 0.0) + max(gap, 0.0)
    detail = f"the last, smaller step size gained {gain:.2g} nats; longer averaging would gain {gap:.2g}"
    limit = max(ABSOLUTE_LIMIT, 2.0 * tolerance)
    passed = value + 2.0 * error < limit
    return Check("stationarity", value, limit, passed, "" if passed else "raise max_steps", error, detail)


def check_held_out(status: str) -> Check:
    """Whether a fit that stops by data held out had found their best ELBO.

    Its training loss may well fall on: parameters after the best look were left behind on purpose.

    Args:
        status: what the fit reports; `converged` says that the held-out ELBO had no new best for a while.

    Returns:
        The check `stationarity`, without a value.
    """
    passed = True if status in SUCCESS else None
    detail = f"stopped by the held-out ELBO: status {status!r}"
    return Check("stationarity", math.nan, ABSOLUTE_LIMIT, passed, "" if passed else "raise max_steps", detail=detail)


def check_method(
    status: str, *, name: str = "", value: float = math.nan, limit: float = math.nan, detail: str = ""
) -> Check:
    """Whether a method without noise in its steps had arrived, by its own criterion.

    Args:
        status: what the fit reports.
        name: what the method measured.
        value: the figure.
        limit: what it must not exceed.
        detail: the evidence in a sentence.

    Returns:
        The check `stationarity`, with the method's own figure; not passed, and not failed, where it gave none and did
        not report success.
    """
    succeeded = status in SUCCESS
    passed = (True if succeeded else None) if math.isnan(value) else succeeded and value <= limit
    said = "; ".join(part for part in (name, detail) if part) or f"status {status!r}"
    return Check("stationarity", value, limit, passed, "" if passed else "raise max_steps", detail=said)


def check_status(status: str) -> Check:
    """Whether the optimiser itself reports success.

    Args:
        status: what the fit reports. `converged` passes; `max_steps` and `out_of_time` pass too, for
            `check_stationarity` then decides; anything else, such as `diverged` or `non_finite`, fails.

    Returns:
        The check `optimiser status`, whose value is 0 for success and 1 for failure.
    """
    passed = status in SUCCESS | LIMIT_REACHED
    advice = "" if passed else "lower step_size, other initial values, or a simpler guide"
    return Check("optimiser status", float(not passed), 0.0, passed, advice, detail=f"status {status!r}")


def _noise(previous: Float64Array, last: Float64Array) -> tuple[float, float]:
    """Standard error of the difference of two window means, and the effective number of steps behind it.

    The noise is autocorrelated and lies about a linear trend in each window. Each effective step carries one degree
    of freedom, of which the two trends take four.
    """
    windows = np.stack([previous, last])
    time = np.linspace(-1.0, 1.0, windows.shape[1])
    noise = windows - windows.mean(axis=1, keepdims=True)
    noise = noise - (noise @ time)[:, None] * time / (time @ time)
    scale = float(np.abs(noise).max())
    if scale <= 1e-12 * max(1.0, float(np.abs(windows).max())):
        return 0.0, float(windows.size)
    found = array_stats.ess(noise / scale, chain_axis=0, draw_axis=1, method="identity")
    ess = min(max(np.asarray(found).item(), 6.0), float(windows.size))
    variance = float((noise**2).mean()) * ess / (ess - 4.0)
    return math.sqrt(4.0 * variance / ess), ess
