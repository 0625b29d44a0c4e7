"""How many draws Pareto smoothed importance sampling needs, by its k-hat."""

import math

KHAT_LIMIT = 0.7


def khat_limit(num_draws: int) -> float:
    """The largest k-hat at which PSIS estimates from so many draws can be used: min(1 - 1/log10 S, 0.7).

    Args:
        num_draws: number of draws S behind k-hat.

    Returns:
        The limit (unitless); 0.7 from 2,155 draws on.

    Vehtari et al. (2024), section 3.2.4.
    """
    return min(1.0 - 1.0 / math.log10(num_draws), KHAT_LIMIT)


def smallest_num_draws(khat: float) -> float:
    """The fewest draws from which PSIS estimates can be used at this k-hat: `khat_limit` turned round.

    Args:
        khat: shape of the ratios' tail (unitless).

    Returns:
        10 ** (1 / (1 - k)), not rounded: 10 at 0, 100 at 0.5, 2,154 at 0.7; infinite above 0.7, where no practical
        number is enough; NaN for NaN.

    Vehtari et al. (2024), section 3.2.4.
    """
    if math.isnan(khat):
        return math.nan
    return 10.0 ** (1.0 / (1.0 - khat)) if khat <= KHAT_LIMIT else math.inf
