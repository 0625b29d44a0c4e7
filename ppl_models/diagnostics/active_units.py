"""Active units: which latent units of an encoder tell anything about the data, and whether the fit has collapsed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import digamma

from ppl_models.checks import Check
from ppl_models.errors import DataError

NAME = "active units"
LIMIT = 0.01
"""Variance over the data of a unit's posterior mean, in variances of its prior, above which the unit is active."""
MIN_ROWS = 10
RESOLUTION = 2.0
NUM_NAMED = 8
ADVICE = "warm up the KL, ask for free bits, or take a decoder that cannot do without the latents"

Float64Array = NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class ActiveUnits:
    """How much each latent unit tells about the data.

    Attributes:
        labels: names of the units.
        variance: variance over the data of the posterior mean, in variances of the unit's prior, shape (unit,).
        error: standard error of it, shape (unit,).
        kl: average over the data of the unit's KL(q(z_u | x) || p(z_u)) in nats, shape (unit,): exact for normal q and
            p; for other q that of its normal of the same mean and variance, which is at most the marginal KL.
        kl_error: standard error of it, shape (unit,).
        num_rows: number of data.
        limit: above which a unit is active.
        rate: mean KL(q(z | x) || p(z)) of all units together, nats; NaN where unknown. Where it is less than that of
            one unit at the limit none is active: where the prior depends on covariates, means vary with it for nothing.
    """

    labels: tuple[str, ...]
    variance: Float64Array = field(repr=False)
    error: Float64Array = field(repr=False)
    kl: Float64Array = field(repr=False)
    kl_error: Float64Array = field(repr=False)
    num_rows: int
    limit: float = LIMIT
    rate: float = math.nan

    @property
    def active(self) -> NDArray[np.bool_]:
        """Whether each unit is active, shape (unit,)."""
        return (self.variance > self.limit) & (not self.silent)

    @property
    def silent(self) -> bool:
        """Whether all units together tell less than one at the limit would."""
        return self.rate < -0.5 * math.log1p(-self.limit)

    @property
    def num_active(self) -> int:
        """How many units are active."""
        return int(self.active.sum())

    @property
    def collapsed(self) -> tuple[str, ...]:
        """Names of the units that are not active."""
        return tuple(label for label, active in zip(self.labels, self.active, strict=True) if not active)

    @property
    def collapse(self) -> str:
        """'none', 'some' or 'all' of the units collapsed; 'unknown' where a figure is not finite or rows are few."""
        if self.num_rows < MIN_ROWS or not np.isfinite(self.variance).all():
            return "unknown"
        return "none" if not self.collapsed else "some" if self.num_active else "all"

    @property
    def check(self) -> Check:
        """Whether any unit is active; some that are not are no fault, for a model may have more than the data need."""
        number, total = self.num_active, len(self.labels)
        if self.collapse == "unknown":
            reason = f"{self.num_rows} rows, needs at least {MIN_ROWS}"
            if not np.isfinite(self.variance).all():
                reason = "the posterior means are not all finite"
            return Check(NAME, math.nan, 1.0, None, "", detail=f"not measured: {reason}")
        if self.collapse == "all":
            largest = int(np.argmax(self.variance))
            near = not self.silent and self.variance[largest] + RESOLUTION * self.error[largest] > self.limit
            detail = f"all {total} units collapsed: the latents tell nothing about the data"
            return Check(NAME, 0.0, 1.0, None if near else False, "more rows" if near else ADVICE, detail=detail)
        detail = f"{number} of {total} units tell something about the data"
        if self.collapsed:
            more = ", …" if len(self.collapsed) > NUM_NAMED else ""
            detail += f"; collapsed: {', '.join(self.collapsed[:NUM_NAMED])}{more}"
        return Check(NAME, float(number), 1.0, True, "", detail=detail)

    @property
    def table(self) -> pd.DataFrame:
        """One row per unit, most active first, columns variance, variance_se, kl, kl_se, active."""
        columns = {
            "variance": self.variance,
            "variance_se": self.error,
            "kl": self.kl,
            "kl_se": self.kl_error,
            "active": self.active,
        }
        frame = pd.DataFrame(columns, index=pd.Index(self.labels, name="unit"))
        return frame.sort_values("variance", ascending=False, kind="stable")

    def __repr__(self) -> str:
        return f"ActiveUnits: {self.num_active} of {len(self.labels)}, collapsed: {self.collapse}\n{self.table}"


def active_units(
    means: ArrayLike,
    variances: ArrayLike,
    *,
    labels: Sequence[str] | None = None,
    prior_mean: ArrayLike = 0.0,
    prior_sd: ArrayLike = 1.0,
    limit: float = LIMIT,
) -> ActiveUnits:
    """Activity of each unit from the means and variances of q(z | x) at each datum.

    Args:
        means: of q(z_u | x), shape (row, unit).
        variances: of q(z_u | x), shape (row, unit).
        labels: names of the units; None takes z[0], z[1], ...
        prior_mean: of each unit, a number or shape (unit,).
        prior_sd: of each unit, a number or shape (unit,).
        limit: variance of the mean, in variances of the prior, above which a unit is active.

    Returns:
        Activity, KL and collapse. Both figures are averages over independent data, and so are their errors.

    Raises:
        DataError: the shapes do not agree, or a variance or a prior sd is not positive.

    Burda, Grosse and Salakhutdinov (2016), Importance weighted autoencoders, ICLR, section 5.
    """
    centres, spreads = np.asarray(means, dtype=float), np.asarray(variances, dtype=float)
    _check_shapes(centres, spreads)
    centres, spreads = _standardised(centres, spreads, prior_mean, prior_sd)
    return _measured(centres, spreads, np.zeros(centres.shape[1]), np.zeros(centres.shape[1]), labels, limit)


def active_units_of_draws(
    draws: ArrayLike,
    *,
    labels: Sequence[str] | None = None,
    prior_mean: ArrayLike = 0.0,
    prior_sd: ArrayLike = 1.0,
    limit: float = LIMIT,
    rate: float = math.nan,
) -> ActiveUnits:
    """Activity of each unit from draws of q(z | x): for any guide.

    The variance of means of S draws holds the draws' own noise, a S-th of the average variance of q; it is taken off,
    for at a hundred draws of a collapsed unit it is the limit itself.

    Args:
        draws: of q(z | x), shape (draw, row, unit); at least 2 draws.
        labels: names of the units; None takes z[0], z[1], ...
        prior_mean: of each unit, a number or shape (unit,).
        prior_sd: of each unit, a number or shape (unit,).
        limit: as in `active_units`.
        rate: mean KL(q(z | x) || p(z)) in nats, or what it is at most, as `rate_distortion` finds it.

    Returns:
        As `active_units`.

    Raises:
        DataError: another shape, one draw alone, or a prior sd that is not positive.
    """
    values = np.asarray(draws, dtype=float)
    if values.ndim != 3 or len(values) < 2:
        raise DataError(f"draws: shape {values.shape}, needs (draw, row, unit) with at least 2 draws.")
    centres, spreads = _standardised(values.mean(axis=0), values.var(axis=0, ddof=1), prior_mean, prior_sd)
    noise, half = spreads.mean(axis=0) / len(values), 0.5 * (len(values) - 1)
    # The squares of means hold their noise, and the log of a normal sample's variance is too small by this much.
    bias = 0.5 * (noise + np.log(half) - digamma(half))
    return replace(_measured(centres, spreads, noise, bias, labels, limit), rate=rate)


def normal_kl(means: Float64Array, variances: Float64Array) -> Float64Array:
    """KL of normals from the standard normal in nats, elementwise; infinite where a variance is 0."""
    with np.errstate(divide="ignore"):
        return 0.5 * (means**2 + variances - 1.0 - np.log(variances))


def _measured(
    centres: Float64Array,
    spreads: Float64Array,
    noise: Float64Array,
    bias: Float64Array,
    labels: Sequence[str] | None,
    limit: float,
) -> ActiveUnits:
    """Activity less the noise of the means' own draws, and KL less its bias, each of shape (unit,)."""
    number, num_units = centres.shape
    names = tuple(labels) if labels is not None else tuple(f"z[{unit}]" for unit in range(num_units))
    if len(names) != num_units:
        raise DataError(f"labels: {len(names)} for {num_units} units, needs one each.")
    squares = (centres - centres.mean(axis=0)) ** 2 * (number / (number - 1.0))
    kl = normal_kl(centres, spreads) - bias
    root = math.sqrt(number)
    return ActiveUnits(
        labels=names,
        variance=squares.mean(axis=0) - noise,
        error=squares.std(axis=0, ddof=1) / root,
        kl=kl.mean(axis=0),
        kl_error=kl.std(axis=0, ddof=1) / root,
        num_rows=number,
        limit=limit,
    )


def _standardised(
    centres: Float64Array, spreads: Float64Array, prior_mean: ArrayLike, prior_sd: ArrayLike
) -> tuple[Float64Array, Float64Array]:
    shift, scale = np.asarray(prior_mean, dtype=float), np.asarray(prior_sd, dtype=float)
    if not (scale > 0.0).all():
        raise DataError("prior_sd: found one that is not positive, needs the sd of each unit's prior.")
    return (centres - shift) / scale, spreads / scale**2


def _check_shapes(centres: Float64Array, spreads: Float64Array) -> None:
    if centres.ndim != 2 or spreads.shape != centres.shape or len(centres) < 2:
        raise DataError(
            f"means: shape {centres.shape}, variances {spreads.shape}; both need (row, unit) with at least 2 rows."
        )
    if (spreads < 0.0).any():
        raise DataError("variances: found a negative one, needs the variance of q(z | x). Square the sds.")
