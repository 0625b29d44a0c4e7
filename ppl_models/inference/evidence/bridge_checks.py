"""Health of a bridge between posterior draws and a proposal."""

import math

import numpy as np

from ppl_models.checks import Check
from ppl_models.inference.evidence.bridge import MOST_ITERATIONS, TOLERANCE, Bridge
from ppl_models.inference.evidence.tail import KHAT_LIMIT, check_tail

FEWEST_EFFECTIVE = 100.0
LEAST_OVERLAP, WIDE_OVERLAP = 0.02, 0.5
NEARER = "a proposal nearer to the posterior: a richer guide, or proposal='t'"


def bridge_checks(found: Bridge, log_ratio_posterior: np.ndarray, log_ratio_proposal: np.ndarray) -> tuple[Check, ...]:
    """Whether the bridge stands: its iteration, its draws on both sides, its overlap, and the tails of the weights.

    Args:
        found: the bridge.
        log_ratio_posterior: log p - log q in nats at posterior draws, shape (chain, draw).
        log_ratio_proposal: the same at draws of the proposal, shape (draw,).
    """
    still = found.iterations < MOST_ITERATIONS and found.moved <= TOLERANCE
    return (
        Check(
            "iterations", found.iterations, MOST_ITERATIONS, still, "" if still else NEARER, detail=_moved(found.moved)
        ),
        _effective("ESS of posterior draws", found.effective_posterior, "sample longer: ppl.sample(draws=)"),
        _effective("ESS of proposal draws", found.effective_proposal, f"{NEARER}; or raise num_proposals"),
        Check(
            "overlap",
            found.overlap,
            LEAST_OVERLAP,
            found.overlap >= LEAST_OVERLAP,
            "" if found.overlap >= LEAST_OVERLAP else NEARER,
            detail="1 where posterior and proposal are the same, 0 where they are apart",
        ),
        _tails(log_ratio_posterior.ravel(), log_ratio_proposal, found.overlap),
    )


def _moved(change: float) -> str:
    return (
        "no draw of the proposal has density under the model" if math.isnan(change) else f"the last: {change:.1g} nats"
    )


def _effective(name: str, value: float, advice: str) -> Check:
    if math.isnan(value):
        return Check(name, value, FEWEST_EFFECTIVE, None, NEARER, detail="not measured")
    passed = value >= FEWEST_EFFECTIVE
    return Check(name, value, FEWEST_EFFECTIVE, passed, "" if passed else advice)


def _tails(posterior: np.ndarray, proposed: np.ndarray, overlap: float) -> Check:
    """k-hat of the importance weights either way: of tails that the terms of a bridge, being bounded, hardly see.

    They count where the bridge is narrow, and one good way is enough there.
    """
    ways = (check_tail("k-hat", proposed, NEARER), check_tail("k-hat", -posterior, NEARER))
    measured = [way for way in ways if not math.isnan(way.value)]
    best = min(measured, key=lambda way: way.value, default=ways[0])
    detail = f"the better way; posterior over proposal {ways[0].value:.2f}, proposal over posterior {ways[1].value:.2f}"
    if overlap >= WIDE_OVERLAP and best.value > KHAT_LIMIT:
        return Check("k-hat", best.value, math.inf, True, "", detail=f"{detail}; no matter at this overlap")
    return Check("k-hat", best.value, KHAT_LIMIT, best.passed, best.advice, detail=detail)
