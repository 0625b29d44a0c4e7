"""SBC of an encoder: are the latents that made a datum one more draw of q(z | x)?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from ppl_models.checks import Check
from ppl_models.diagnostics.calibration.coverage import coverage_table
from ppl_models.diagnostics.calibration.evidence import FALSE_ALARM_RATE
from ppl_models.diagnostics.calibration.ranks import checked_ranks, ranks_among
from ppl_models.diagnostics.calibration.shapes import rank_moments, shape_in_words
from ppl_models.diagnostics.calibration.uniformity import check_sbc, sbc_p_values
from ppl_models.errors import DataError

NAME = "SBC of the encoder"
ADVICE = "a richer q(z | x) (full_rank, iaf, realnvp) or a larger encoder; correct the draws by importance weights"
SCOPE = "data drawn from the model, not the data themselves"


@dataclass(frozen=True, repr=False)
class EncoderRanks:
    """Ranks of the true latents among draws of q(z | x).

    Attributes:
        ranks: whole numbers from 0 to `num_draws`, shape (simulation, quantity).
        labels: names of the quantities: latent units, then log densities.
        num_draws: draws that were ranked among.
        num_units: how many of the quantities are units.
        false_alarm_rate: of the check.
    """

    ranks: NDArray[np.int64] = field(repr=False)
    labels: tuple[str, ...]
    num_draws: int
    num_units: int
    false_alarm_rate: float = FALSE_ALARM_RATE

    @property
    def check(self) -> Check:
        """Whether all ranks are uniform."""
        found = check_sbc(self.ranks, self.num_draws, self.labels, false_alarm_rate=self.false_alarm_rate)
        advice = ADVICE if found.passed is False else found.advice
        units = f"; {self._units()}" if found.passed is False and not self._worst_is_unit else ""
        return replace(found, name=NAME, advice=advice, detail=f"{found.detail}{units}; {SCOPE}")

    @property
    def _worst_is_unit(self) -> bool:
        return int(np.argmin(sbc_p_values(self.ranks, self.num_draws))) < self.num_units

    def _units(self) -> str:
        """What is the matter with the unit that is furthest from uniform: of a density's ranks that is hard to tell."""
        ranks = self.ranks[:, : self.num_units]
        worst = int(np.argmin(sbc_p_values(ranks, self.num_draws)))
        bias, spread = (float(each[worst]) for each in rank_moments(ranks, self.num_draws))
        return f"of the units worst `{self.labels[worst]}`: q(z | x) is {shape_in_words(bias, spread)}"

    @property
    def coverage(self) -> pd.DataFrame:
        """How often central intervals hold the truth, one row per quantity and level."""
        return coverage_table(self.ranks, self.num_draws, self.labels)

    def __repr__(self) -> str:
        return f"EncoderRanks: {len(self.ranks):,} simulations, {self.num_draws:,} draws\n{self.check}"


def encoder_ranks(
    truth: ArrayLike,
    draws: ArrayLike,
    labels: Sequence[str],
    *,
    scores: Mapping[str, tuple[ArrayLike, ArrayLike]] | None = None,
    false_alarm_rate: float = FALSE_ALARM_RATE,
    seed: int = 0,
) -> EncoderRanks:
    """Rank the latents that made each simulated datum among draws of q(z | x) at it.

    With z* from the prior and x* from the decoder at z*, z* is one draw of p(z | x*). If q(z | x) is that posterior,
    all ranks are uniform; nothing is fitted again. Log densities among the quantities see what no single unit shows.

    Args:
        truth: z*, shape (simulation, unit).
        draws: of q(z | x*), shape (draw, simulation, unit).
        labels: names of the units.
        scores: name -> a function of z and x* at the truth, shape (simulation,), and at the draws, shape (draw,
            simulation); as log q(z | x), log p(x, z).
        false_alarm_rate: probability, at most, that exact posteriors fail.
        seed: of what breaks ties.

    Raises:
        DataError: the shapes do not agree, or a number is NaN.

    Talts, Betancourt, Simpson, Vehtari and Gelman (2018), Validating Bayesian inference algorithms with
    simulation-based calibration; Modrák et al. (2023) on log densities as quantities.
    """
    true, drawn = np.asarray(truth, dtype=float), np.asarray(draws, dtype=float)
    if true.ndim != 2 or drawn.ndim != 3:
        raise DataError(
            f"truth: shape {true.shape}, draws {drawn.shape}; needs (simulation, unit) and (draw, simulation, unit)."
        )
    names, parts, drawn_parts = list(labels), [true], [drawn]
    for name, (value, values) in (scores or {}).items():
        names.append(name)
        parts.append(np.asarray(value, dtype=float)[:, None])
        drawn_parts.append(np.asarray(values, dtype=float)[:, :, None])
    ranks = ranks_among(np.concatenate(parts, axis=1), np.concatenate(drawn_parts, axis=2), seed=seed)
    return EncoderRanks(
        checked_ranks(ranks, len(drawn), names), tuple(names), len(drawn), true.shape[1], false_alarm_rate
    )
