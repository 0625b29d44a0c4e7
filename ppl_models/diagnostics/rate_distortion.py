"""Rate and distortion: what a representation costs, and what it fails to say about the data."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from ppl_models.errors import DataError

Float64Array = NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class RateDistortion:
    """Where a fit stands: a point with the ELBO of all points on its line of slope -1.

    Attributes:
        rate_by_row: KL(q(z | x) || p(z)) in nats, shape (row,).
        distortion_by_row: -E_q[log p(x | z)] in nats, shape (row,); densities of continuous data can make it negative.
        mcse: Monte Carlo standard errors of the mean rate, the mean distortion and their sum, for these very rows.
    """

    rate_by_row: Float64Array = field(repr=False)
    distortion_by_row: Float64Array = field(repr=False)
    mcse: tuple[float, float, float] = (math.nan, math.nan, math.nan)

    @property
    def rate(self) -> float:
        """Mean rate in nats per datum."""
        return float(self.rate_by_row.mean())

    @property
    def distortion(self) -> float:
        """Mean distortion in nats per datum."""
        return float(self.distortion_by_row.mean())

    @property
    def elbo(self) -> float:
        """-(rate + distortion): nats per datum."""
        return -(self.rate + self.distortion)

    @property
    def errors(self) -> tuple[float, float, float]:
        """Standard errors of rate, distortion and ELBO as estimates for all data like these, the draws' included."""
        total = self.rate_by_row + self.distortion_by_row
        root = math.sqrt(len(total))
        with np.errstate(invalid="ignore"):  # of rows that are impossible
            first, second, third = (
                float(each.std(ddof=1)) / root if len(each) > 1 else math.nan
                for each in (self.rate_by_row, self.distortion_by_row, total)
            )
        return first, second, third

    def __repr__(self) -> str:
        (rate, distortion, elbo), number = self.errors, len(self.rate_by_row)
        return (
            f"RateDistortion: rate {self.rate:.3f} ± {rate:.2g}, distortion {self.distortion:.3f} ± {distortion:.2g}, "
            f"ELBO {self.elbo:.3f} ± {elbo:.2g} nats per datum, {number:,} data"
        )


def rate_distortion(log_prior: ArrayLike, log_likelihood: ArrayLike, log_q: ArrayLike) -> RateDistortion:
    """Rate and distortion of each datum from draws of q(z | x).

    Args:
        log_prior: log p(z) in nats at draws of q(z | x), shape (draw, row).
        log_likelihood: log p(x | z) at the same draws.
        log_q: log q(z | x) at the same draws.

    Returns:
        Both by row, from the same draws: rate + distortion = -ELBO holds exactly.

    Raises:
        DataError: the shapes do not agree, or there are no draws.

    Alemi, Poole, Fischer, Dillon, Saurous and Murphy (2018), Fixing a broken ELBO, ICML.
    """
    prior, likelihood, guide = (np.asarray(each, dtype=float) for each in (log_prior, log_likelihood, log_q))
    if prior.ndim != 2 or not prior.size or likelihood.shape != prior.shape or guide.shape != prior.shape:
        raise DataError(
            f"log_prior {prior.shape}, log_likelihood {likelihood.shape}, log_q {guide.shape}: all need (draw, row)."
        )
    rates = guide - prior
    with np.errstate(invalid="ignore"):  # of rows that are impossible
        errors = tuple(_mean_error(each) for each in (rates, -likelihood, rates - likelihood))
    return RateDistortion(rates.mean(axis=0), -likelihood.mean(axis=0), (errors[0], errors[1], errors[2]))


def rate_distortion_curve(points: Mapping[str, RateDistortion]) -> pd.DataFrame:
    """The points of several fits in one table, lowest rate first.

    Args:
        points: name -> where that fit stands; of the same rows.

    Returns:
        One row per fit: rate, rate_se, distortion, distortion_se, elbo, elbo_se (nats per datum), and `dominated`:
        another fit has both a lower rate and a lower distortion.

    Raises:
        DataError: no points.
    """
    if not points:
        raise DataError("points: none given, needs a name and a RateDistortion for each fit.")
    rows = []
    for name, point in points.items():
        rate, distortion, elbo = point.errors
        rows.append((name, point.rate, rate, point.distortion, distortion, point.elbo, elbo))
    columns = ["fit", "rate", "rate_se", "distortion", "distortion_se", "elbo", "elbo_se"]
    table = pd.DataFrame(rows, columns=columns).set_index("fit").sort_values("rate", kind="stable")
    rates, distortions = table["rate"].to_numpy(), table["distortion"].to_numpy()
    better = (rates[None] < rates[:, None]) & (distortions[None] < distortions[:, None])
    return table.assign(dominated=better.any(axis=1))


def _mean_error(values: Float64Array) -> float:
    """Monte Carlo standard error of the mean over all, the draws of each row independent."""
    if len(values) < 2:
        return math.nan
    return float(np.sqrt((values.var(axis=0, ddof=1) / len(values)).sum()) / values.shape[1])
