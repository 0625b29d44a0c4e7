"""Expected coverage: do central intervals hold the truth as often as they say?"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import beta

from ppl_models.checks import Check
from ppl_models.diagnostics.calibration.ecdf_band import ecdf_p_values
from ppl_models.diagnostics.calibration.evidence import FALSE_ALARM_RATE, check_of_p_values
from ppl_models.diagnostics.calibration.ranks import checked_ranks

LEVELS = (0.5, 0.8, 0.9, 0.95)


def coverage_table(
    ranks: NDArray,
    num_draws: int,
    labels: Sequence[str],
    *,
    levels: Sequence[float] = LEVELS,
    probability: float = 0.95,
) -> pd.DataFrame:
    """How often central intervals hold the truth.

    Args:
        ranks: of the true values among draws, shape (simulation, quantity).
        num_draws: number of draws that were ranked among; levels are rounded to what so many draws can tell.
        labels: names of the quantities.
        levels: nominal probabilities of the intervals.
        probability: of the Clopper-Pearson interval around each share.

    Returns:
        One row per quantity and level, columns quantity, level (as rounded), coverage (the share held), lower, upper.

    Raises:
        DataError: ranks of another shape, or out of range.
    """
    ranks = checked_ranks(ranks, num_draws, labels)
    cuts, exact = _intervals(num_draws, levels)
    held, number = _held(ranks, num_draws, cuts), len(ranks)
    half = 0.5 * (1.0 - probability)
    with np.errstate(invalid="ignore"):
        lower = np.where(held > 0, beta.ppf(half, held, number - held + 1), 0.0)
        upper = np.where(held < number, beta.ppf(1.0 - half, held + 1, number - held), 1.0)
    share = held / number if number else np.full(held.shape, np.nan)
    return pd.DataFrame(
        {
            "quantity": np.repeat(np.asarray(labels, dtype=object), len(cuts)),
            "level": np.tile(exact, len(labels)),
            "coverage": share.reshape(-1),
            "lower": lower.reshape(-1),
            "upper": upper.reshape(-1),
        }
    )


def check_coverage(
    ranks: NDArray,
    num_draws: int,
    labels: Sequence[str],
    *,
    levels: Sequence[float] = LEVELS,
    false_alarm_rate: float = FALSE_ALARM_RATE,
) -> Check:
    """Whether central intervals hold the truth as often as they say, all levels together.

    Args:
        ranks: of the true values among draws, shape (simulation, quantity).
        num_draws: number of draws that were ranked among.
        labels: names of the quantities.
        levels: nominal probabilities of the intervals.
        false_alarm_rate: probability, at most, that calibrated posteriors fail.

    Returns:
        The check `coverage`; its value is the smallest p-value times the number of quantities. What is held in nested
        intervals is a path like that of an ECDF, and is tested like it.

    Raises:
        DataError: ranks of another shape, or out of range.
    """
    ranks = checked_ranks(ranks, num_draws, labels)
    return check_of_p_values(
        "coverage",
        lambda: coverage_p_values(ranks, num_draws, levels),
        lambda worst: _farthest(ranks[:, [worst]], num_draws, levels),
        labels=labels,
        num_simulations=len(ranks),
        false_alarm_rate=false_alarm_rate,
        advice="a richer family of guides, or a correction of the draws",
    )


def coverage_p_values(ranks: NDArray, num_draws: int, levels: Sequence[float] = LEVELS) -> NDArray:
    """P-value of each quantity's coverage, all levels together; shape (quantity,)."""
    cuts, exact = _intervals(num_draws, levels)
    return ecdf_p_values(_held(ranks, num_draws, cuts), len(ranks), exact)


def _intervals(num_draws: int, levels: Sequence[float]) -> tuple[NDArray, NDArray]:
    """Least ranks inside the intervals, and the intervals' probabilities under uniform ranks, increasing."""
    wanted = 0.5 * (1.0 - np.asarray(levels, dtype=float)) * (num_draws + 1)
    cuts = np.unique(np.rint(wanted).clip(1, num_draws // 2 if num_draws > 1 else 1))[::-1].astype(np.int64)
    exact = (num_draws + 1 - 2 * cuts) / (num_draws + 1.0)
    return cuts[exact > 0.0], exact[exact > 0.0]


def _held(ranks: NDArray, num_draws: int, cuts: NDArray) -> NDArray:
    inside = np.minimum(ranks, num_draws - ranks)[:, :, None] >= cuts
    return inside.sum(axis=0)


def _farthest(ranks: NDArray, num_draws: int, levels: Sequence[float]) -> str:
    table = coverage_table(ranks, num_draws, [""], levels=levels)
    error = np.sqrt(table["level"] * (1.0 - table["level"]))
    row = table.loc[((table["coverage"] - table["level"]).abs() / error).idxmax()]
    width = "too narrow" if row["coverage"] < row["level"] else "too wide"
    return (
        f"{width} (the {100 * row['level']:.3g} % interval holds {100 * row['coverage']:.1f} % of the truths, "
        f"95 % interval {100 * row['lower']:.1f} to {100 * row['upper']:.1f} %)"
    )
