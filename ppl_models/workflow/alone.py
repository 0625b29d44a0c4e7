"""What can be said of a fit without a baseline: by its weights, its scores, and proposals that began elsewhere."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import pandas as pd

from ppl_models.diagnostics import (
    Check,
    check_error_bound,
    check_gap,
    check_joint_with_pool,
    check_joint_with_psis,
    check_scores,
    check_stein,
    compare_with_pool,
    compare_with_psis,
    score_moments,
    unmeasured_table,
)
from ppl_models.seeds import child_seed
from ppl_models.workflow.by_datum import check_by_datum
from ppl_models.workflow.clock import Clock
from ppl_models.workflow.measuring import Flat, Measured, held_against
from ppl_models.workflow.probing import Probed, probe, unprobed


def judged_alone(
    measured: Measured, khat: Check, soundness: Sequence[Check], clock: Clock, *, seed: int, corrected: bool
) -> dict[str, Any]:
    """The tables and checks that `decide` takes, without a baseline.

    Args:
        measured: draws of the fit.
        khat: of their weights.
        soundness: of the draws.
        clock: counts the seconds of each check.
        seed: of everything random.
        corrected: whether the draws are judged with their importance weights.
    """
    unmeasured = unmeasured_table(list(measured.labelled.labels))
    if measured.fit.point:
        return {"psis_table": None}
    if any(check.passed is not True for check in soundness):
        return {"psis_table": unmeasured}
    with clock.on("k-hat by datum"):
        local = _by_datum(measured, seed)
    with clock.on("flat draws"):
        flat = Flat.of(measured)
    if isinstance(flat, str):
        own = _by_own_weights(measured, khat, clock, unmeasured)
        return {**own, "elsewhere": unprobed(flat).checks, "further": local}
    found = _by_scores(flat, clock, seed)
    found["further"] += local
    if khat.passed is not None:
        found["further"] += _by_bounds(measured, flat, clock, seed)
    with clock.on("other starts"):
        probed = probe(measured, flat, weighable=khat.passed is True, seed=child_seed(seed, "probe"))
    found["elsewhere"] = probed.checks
    if probed.reliable:
        return {**found, **_by_pool(measured, probed, khat, clock, corrected)}
    return {**found, **_by_own_weights(measured, khat, clock, unmeasured)}


def _by_datum(measured: Measured, seed: int) -> tuple[Check, ...]:
    """k-hat of each datum, where all latents are the data's own: beside global latents it is not the fit's alone."""
    sites = measured.fit.program.sites.latent
    if not all(any(site.plates) for site in sites):
        return ()
    return tuple(check for check in check_by_datum(measured.fit, seed=seed) if not math.isnan(check.value))


def _by_scores(flat: Flat, clock: Clock, seed: int) -> dict[str, Any]:
    with clock.on("scores"):
        points, scores = flat.scores()
        moments = score_moments(points, scores, flat.labels)
        checks = check_scores(points, scores, flat.labels, moments=moments)
    with clock.on("kernel Stein discrepancy"):
        stein = check_stein(points, scores, flat.labels, seed=child_seed(seed, "stein"))
    return {"scores": checks, "further": (stein,), "tables": {"scores": moments.table}}


def _by_bounds(measured: Measured, flat: Flat, clock: Clock, seed: int) -> tuple[Check, ...]:
    with clock.on("bounds"):
        gap = check_gap(measured.log_ratio, flat.points.shape[1], seed=child_seed(seed, "gap"))
        return gap, check_error_bound(measured.log_ratio, flat.points, flat.labels)


def _by_pool(measured: Measured, probed: Probed, khat: Check, clock: Clock, corrected: bool) -> dict[str, Any]:
    assert probed.pool is not None
    pool = (measured.draws, probed.pool.values, probed.pool.log_weights)
    table, joint = partial(compare_with_pool, *pool), partial(check_joint_with_pool, *pool)
    return held_against(table, joint, measured.log_ratio, khat, clock, name="pool_table", corrected=corrected)


def _by_own_weights(measured: Measured, khat: Check, clock: Clock, unmeasured: pd.DataFrame) -> dict[str, Any]:
    if not khat.passed:
        return {"psis_table": unmeasured}
    with clock.on("marginals"):
        table = compare_with_psis(measured.draws, measured.log_ratio)
    with clock.on("joint"):
        joint = check_joint_with_psis(measured.draws, measured.log_ratio)
    return {"psis_table": table, "joint": joint}
