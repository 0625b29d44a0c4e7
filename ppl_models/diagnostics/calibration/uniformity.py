"""Simulation-based calibration: are the ranks of true values among posterior draws uniform?"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ppl_models.checks import Check
from ppl_models.diagnostics.calibration.ecdf_band import ecdf_p_values, thresholds
from ppl_models.diagnostics.calibration.evidence import FALSE_ALARM_RATE, check_of_p_values
from ppl_models.diagnostics.calibration.ranks import checked_ranks
from ppl_models.diagnostics.calibration.shapes import rank_moments, shape_in_words


def sbc_p_values(ranks: NDArray, num_draws: int) -> NDArray:
    """P-value of each quantity's ranks being uniform, by the simultaneous band of their ECDF; shape (quantity,).

    Args:
        ranks: whole numbers from 0 to `num_draws`, shape (simulation, quantity).
        num_draws: number of draws that were ranked among.
    """
    below = thresholds(num_draws)
    counts = np.array([np.searchsorted(column, below) for column in np.sort(ranks, axis=0).T])
    return ecdf_p_values(counts, len(ranks), below / (num_draws + 1.0))


def check_sbc(
    ranks: NDArray, num_draws: int, labels: Sequence[str], *, false_alarm_rate: float = FALSE_ALARM_RATE
) -> Check:
    """Whether every quantity's ranks are uniform.

    Args:
        ranks: of the true values among posterior draws, shape (simulation, quantity).
        num_draws: number of draws that were ranked among.
        labels: names of the quantities.
        false_alarm_rate: probability, at most, that calibrated posteriors fail.

    Returns:
        The check `SBC`; its value is the smallest p-value times the number of quantities.

    Raises:
        DataError: ranks of another shape, or out of range.

    Talts et al. (2018), Validating Bayesian inference algorithms with simulation-based calibration; Säilynoja, Bürkner
    and Vehtari (2022), Graphical test for discrete uniformity.
    """
    ranks = checked_ranks(ranks, num_draws, labels)
    return check_of_p_values(
        "SBC",
        lambda: sbc_p_values(ranks, num_draws),
        lambda worst: _of_ranks(ranks[:, worst], num_draws),
        labels=labels,
        num_simulations=len(ranks),
        false_alarm_rate=false_alarm_rate,
        advice="a richer family of guides, or a correction of the draws",
    )


def _of_ranks(ranks: NDArray, num_draws: int) -> str:
    bias, spread = (float(value[0]) for value in rank_moments(ranks[:, None], num_draws))
    mean = (float(np.mean(ranks)) + 0.5) / (num_draws + 1.0)
    return f"{shape_in_words(bias, spread)} (mean rank {mean:.3f} of 0.5, {bias:+.1f} se; spread {spread:+.1f} se)"
