"""Variational simulation-based calibration: are the ranks symmetric about the middle?"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from ppl_models.checks import Check
from ppl_models.diagnostics.calibration.evidence import FALSE_ALARM_RATE, check_of_p_values
from ppl_models.diagnostics.calibration.ranks import checked_ranks

UNRESOLVED = 1e-10
"""Below it the difference of one and a sum of probabilities is rounding; a bound, nearly sharp there, stands for it."""
BLIND = "symmetry only: draws that are too narrow or too wide pass"


def symmetry_p_values(ranks: NDArray, num_draws: int, *, seed: int = 0) -> NDArray:
    """Exact p-value of each quantity's ranks being symmetric about their middle.

    The statistic is the greatest difference between the ECDFs of the ranks and of their mirror images. Taken from the
    outermost rank inwards, the sides on which symmetric ranks fall are those of a fair coin, so the differences are a
    random walk, whose greatest excursion has a known distribution.

    Args:
        ranks: whole numbers from 0 to `num_draws`, shape (simulation, quantity).
        num_draws: number of draws that were ranked among.
        seed: of what breaks ties between ranks.

    Returns:
        P-values, shape (quantity,).

    Butler (1969), A test for symmetry using the sample distribution function, Annals of Mathematical Statistics 40.
    """
    noise = np.random.default_rng(seed).uniform(size=ranks.shape)
    away = (ranks + noise) / (num_draws + 1.0) - 0.5
    order = np.argsort(-np.abs(away), axis=0)
    walk = np.cumsum(np.sign(np.take_along_axis(away, order, axis=0)), axis=0)
    excursions = np.abs(walk).max(axis=0).astype(int)
    return np.array([excursion_tail(int(excursion), len(ranks)) for excursion in excursions])


def excursion_tail(excursion: int, num_steps: int) -> float:
    """Probability that a fair walk of unit steps is ever `excursion` or more away from its start, by reflection."""
    if excursion < 1:
        return 1.0
    farther = np.arange(excursion, num_steps + 1)
    bound = 4.0 * float(_walk_end(farther, num_steps).sum())
    if bound < UNRESOLVED:
        return bound
    places = np.arange(1 - excursion, excursion)
    images = range(-(num_steps // (4 * excursion)) - 1, num_steps // (4 * excursion) + 2)
    inside = sum(
        _walk_end(places + 4 * image * excursion, num_steps)
        - _walk_end(2 * excursion - places + 4 * image * excursion, num_steps)
        for image in images
    )
    return float(np.clip(1.0 - np.sum(inside), 0.0, 1.0))


def check_vsbc(
    ranks: NDArray, num_draws: int, labels: Sequence[str], *, false_alarm_rate: float = FALSE_ALARM_RATE
) -> Check:
    """Whether every quantity's ranks are symmetric: the centres of the posteriors are right on average.

    A guide of half the width passes by design; `check_sbc` and `check_coverage` see it.

    Args:
        ranks: of the true values among draws, shape (simulation, quantity).
        num_draws: number of draws that were ranked among.
        labels: names of the quantities.
        false_alarm_rate: probability, at most, that symmetric ranks fail.

    Returns:
        The check `VSBC`; its value is the smallest p-value times the number of quantities.

    Raises:
        DataError: ranks of another shape, or out of range.

    Yao, Vehtari, Simpson and Gelman (2018), Yes, but did it work?: Evaluating variational inference, ICML.
    """
    ranks = checked_ranks(ranks, num_draws, labels)
    return check_of_p_values(
        "VSBC",
        lambda: symmetry_p_values(ranks, num_draws),
        lambda worst: _side(ranks[:, worst], num_draws),
        labels=labels,
        num_simulations=len(ranks),
        false_alarm_rate=false_alarm_rate,
        advice="a guide that can be skewed, or a correction of the draws",
        limitation=BLIND,
    )


def _side(ranks: NDArray, num_draws: int) -> str:
    mean = (float(ranks.mean()) + 0.5) / (num_draws + 1.0)
    return f"biased {'low' if mean > 0.5 else 'high'} (mean rank {mean:.3f} of 0.5)"


def _walk_end(places: NDArray, num_steps: int) -> NDArray:
    """Probability that the walk ends at each place."""
    possible = (np.abs(places) <= num_steps) & ((places + num_steps) % 2 == 0)
    up = np.where(possible, (places + num_steps) // 2, 0)
    log_probability = gammaln(num_steps + 1.0) - gammaln(up + 1.0) - gammaln(num_steps - up + 1.0)
    return np.where(possible, np.exp(log_probability - num_steps * np.log(2.0)), 0.0)
