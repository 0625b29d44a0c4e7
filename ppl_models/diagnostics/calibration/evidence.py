"""How p-values of many quantities become one check."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ppl_models.checks import Check
from ppl_models.errors import OptionError

MIN_SIMULATIONS = 20
"""Fewer say nothing: a posterior of half the width would mostly pass."""
FALSE_ALARM_RATE = 0.05


def check_of_p_values(
    name: str,
    p_values: Callable[[], NDArray],
    describe: Callable[[int], str],
    *,
    labels: Sequence[str],
    num_simulations: int,
    false_alarm_rate: float,
    advice: str,
    limitation: str = "",
) -> Check:
    """A check that fails for calibrated posteriors with at most the probability `false_alarm_rate`.

    Its value is the smallest p-value times the number of quantities (Bonferroni), at most 1; it must be at least the
    limit, the false-alarm rate.

    Args:
        name: what is checked.
        p_values: gives one for each quantity; not called where there are too few simulations.
        describe: says what is the matter with the quantity of that index.
        labels: names of the quantities.
        num_simulations: number of simulations behind the p-values.
        false_alarm_rate: of the whole check.
        advice: what to do when it fails.
        limitation: what the check cannot see, said whether it passes or fails.
    """
    if not 0.0 < false_alarm_rate < 1.0:
        raise OptionError(f"false_alarm_rate: found {false_alarm_rate!r}, wanted a number between 0 and 1.")
    if num_simulations < MIN_SIMULATIONS:
        detail = f"not measured: {num_simulations} simulations, needs at least {MIN_SIMULATIONS}"
        return Check(name, math.nan, false_alarm_rate, None, "more simulations", detail=detail)
    found = p_values()
    worst = int(np.argmin(found))
    value = min(1.0, float(found[worst]) * len(labels))
    passed = value >= false_alarm_rate
    over = f"smallest p-value of {len(labels)} quantities times their number, {num_simulations} simulations"
    found_in = f"nearest: `{labels[worst]}`" if passed else f"worst: `{labels[worst]}`, {describe(worst)}"
    detail = "; ".join(part for part in (over, found_in, limitation) if part)
    return Check(name, value, false_alarm_rate, passed, "" if passed else advice, detail=detail)
