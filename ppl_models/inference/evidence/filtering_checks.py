"""Health of a particle filter's runs."""

import math

import numpy as np

from ppl_models.checks import Check

FEWEST_EFFECTIVE = 20.0
FEWEST_UNIQUE = 0.02
MOST_SPREAD = 0.7
"""Sd of the runs' log estimates in nats. Beyond it their mean is led by a few, and the intervals hold too seldom."""
MOST_LOST = 0.02
"""Nats of the log evidence that a proposal's gaps may cost."""
WIDEN = "a proposal that reaches whatever the model can draw: with wider or heavier tails, or a mixture with the model"
MORE = "more particles, or a proposal that looks at the observation"


def check_alive(log_evidence: np.ndarray) -> Check:
    """Whether some particles of every run have weight at all times.

    Args:
        log_evidence: of each run up to each time, nats, shape (run, time); -inf from where all weights are zero.
    """
    dead = np.isneginf(log_evidence)
    share = float(1.0 - dead[:, -1].mean())
    if not dead.any():
        return Check("runs with particles left", share, 1.0, True, "", detail=f"all of {len(dead):,}")
    first = int(dead.any(axis=0).argmax())
    detail = (
        f"no particle has weight in {int(dead[:, -1].sum()):,} of {len(dead):,} runs, first at time {first}, where "
        f"{int(dead[:, first].sum()):,} lose all"
    )
    return Check("runs with particles left", share, 1.0, False, MORE, detail=detail)


def check_effective(effective: np.ndarray, num_particles: int) -> Check:
    """The fewest effective particles, of the median run at its worst time; `effective` of shape (run, time)."""
    median = np.median(effective, axis=0)
    worst = int(median.argmin())
    value, limit = float(median[worst]), min(FEWEST_EFFECTIVE, 0.5 * num_particles)
    detail = f"of {num_particles:,} particles, at time {worst}, the median of {len(effective):,} runs"
    return Check("smallest ESS", value, limit, value >= limit, "" if value >= limit else MORE, detail=detail)


def check_unique(unique: np.ndarray) -> Check:
    """The smallest share of particles with an ancestor of their own, of the median run; shape (run, time)."""
    median = np.median(unique, axis=0)
    worst = int(median.argmin())
    value = float(median[worst])
    passed = value >= FEWEST_UNIQUE
    detail = f"at time {worst}, the median of {len(unique):,} runs"
    return Check("share of unique ancestors", value, FEWEST_UNIQUE, passed, "" if passed else MORE, detail=detail)


def check_support(lost: np.ndarray, num_proposed: int) -> Check:
    """What the evidence loses to states that the model draws and the proposal as good as never does.

    Args:
        lost: nats, shape (run, time); NaN at times that were not probed.
        num_proposed: times at which the proposal was used.
    """
    probed = np.flatnonzero(~np.isnan(lost).all(axis=0))
    name = "evidence that the proposal misses"
    if not len(probed):
        return Check(name, math.nan, MOST_LOST, None, WIDEN, detail="not measured: no time with an observation")
    by_time = np.nanmean(lost[:, probed], axis=0)
    value, worst = float(by_time.mean() * num_proposed), int(by_time.argmax())
    passed = value <= MOST_LOST
    detail = f"nats, from draws of the model at {len(probed):,} times"
    if not passed:
        detail = f"{detail}, whose states the proposal does not draw: at time {probed[worst]}, say"
    return Check(name, value, MOST_LOST, passed, "" if passed else WIDEN, detail=detail)


def check_spread(log_evidence: np.ndarray) -> Check:
    """The sd of the runs' log estimates, shape (run,): whether the error can be trusted."""
    name, found = "sd of log estimates between runs", log_evidence[np.isfinite(log_evidence)]
    if found.size < 2:
        return Check(name, math.nan, MOST_SPREAD, None, MORE, detail="not measured: fewer than two runs with particles")
    value = float(found.std(ddof=1))
    passed = value <= MOST_SPREAD
    mcse = value / math.sqrt(2.0 * (found.size - 1))
    return Check(name, value, MOST_SPREAD, passed, "" if passed else MORE, mcse, f"nats, {found.size:,} runs")
