"""Central moments of values that come in chunks, merged in float64, and whether a mean is near enough to normal.

Chan, Golub and LeVeque (1983), The American Statistician 37(3); the third to sixth moments after Pébay (2008), Sandia
report SAND2008-6212.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ppl_models.checks import Check

Float64Array = NDArray[np.float64]

SPREAD = "spread of f"
"""Name of the check that finds all values equal."""
SKEWNESS = "skewness of the estimate"
ADVICE = "raise num_draws, or take method='importance'"
SKEWED = 0.2
"""Skewness of an estimate up to which a 95 % interval misses at most 6 % of the time: 25 draws for each unit of squared
skewness, as Cochran (1977), Sampling techniques, section 2.15 advises."""
LEAST_VALUES = 1_000
"""Values that can show their own skewness: where they are fewer, the tail that decides it was often not seen."""
HIGHEST = 6
"""Order of the moments that are kept; the error of a skewness is made of the first six."""


class Moments:
    """Running central moments of values, each of any shape.

    Attributes:
        count: of values.
        mean: shape (*event).
        sums: of the second to sixth powers of deviations from the mean, shape (5, *event).
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean: Float64Array = np.zeros(())
        self.sums: Float64Array = np.zeros(HIGHEST - 1)

    def add(self, values: torch.Tensor) -> None:
        """Take in a chunk, shape (draw, *event)."""
        count = values.shape[0]
        if count == 0:
            return
        rest = values.double() if values.dtype != torch.float64 else values.clone()
        mean = rest.mean(0)
        rest -= mean
        square = rest * rest
        sums = [_product(rest, rest), _product(square, rest), _product(square, square)]
        rest *= square  # the cube, where the values were: less memory is faster
        sums += [_product(square, rest), _product(rest, rest)]
        self._merge(count, mean.cpu().numpy(), torch.stack(sums).cpu().numpy())

    def _merge(self, count: int, mean: Float64Array, sums: Float64Array) -> None:
        if self.count == 0 or count == 0:
            if count:
                self.count, self.mean, self.sums = count, mean, sums
            return
        here, total = self.count, self.count + count
        shift = mean - self.mean
        merged_sums = self.sums + sums
        for order in range(2, HIGHEST + 1):
            found = merged_sums[order - 2]
            for lower in range(1, order - 1):
                ours, theirs = (-shift * (count / total)) ** lower, (shift * (here / total)) ** lower
                place = order - lower - 2
                found = found + math.comb(order, lower) * (ours * self.sums[place] + theirs * sums[place])
            ends = here * (count / total) ** order + count * (here / total) ** order * (-1) ** order
            merged_sums[order - 2] = found + (-shift) ** order * ends
        self.sums = merged_sums
        self.mean = self.mean + shift * (count / total)
        self.count = total

    @property
    def second(self) -> Float64Array:
        """Sum of squared deviations from the mean."""
        return self.sums[0]

    @property
    def third(self) -> Float64Array:
        """Sum of cubed deviations from the mean."""
        return self.sums[1]

    @property
    def variance(self) -> Float64Array:
        """Unbiased; NaN for fewer than two values."""
        return self.second / (self.count - 1) if self.count > 1 else np.full_like(self.second, math.nan)

    @property
    def standard_error(self) -> Float64Array:
        """Of the mean, where the values are independent."""
        return np.sqrt(self.variance / self.count)

    def checks(
        self, what: str = "values", *, least: int = LEAST_VALUES, effective: Float64Array | None = None
    ) -> tuple[Check, ...]:
        """Whether there are enough values for their skewness; none where no value varies.

        Args:
            what: the values are, for people.
            least: values below which the check stays open.
            effective: independent values that would have the same standard error, shape (*event), where the values
                depend on each other.
        """
        flat = self.sums.reshape(HIGHEST - 1, -1)
        moving = ~_still(flat[0], np.atleast_1d(self.mean).ravel(), self.count)
        if not moving.any():
            return ()
        skewness, mcse = skewness_of_mean(np.array([self.count]), flat[:, None, moving] / self.count)
        if effective is not None:
            widened = np.sqrt(self.count / np.broadcast_to(effective, self.mean.shape).reshape(-1)[moving])
            skewness, mcse = skewness * widened, mcse * widened
        detail = f"{self.count:,} {what}"
        return (check_skewness(skewness, detail, mcse, "" if self.count >= least else f"wanted {least:,}"),)


def _product(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Sum of products over draws; inner products are faster than sums."""
    return torch.dot(one, other) if one.ndim == 1 else (one * other).sum(0)


def merged(parts: Sequence[Moments]) -> Moments:
    """The moments of all values together."""
    total = Moments()
    for part in parts:
        total._merge(part.count, part.mean, part.sums)
    return total


def _still(second: Float64Array, mean: Float64Array, count: int) -> NDArray[np.bool_]:
    """Which values do not vary but for rounding."""
    return second <= count * (8.0 * np.finfo(np.float64).eps * mean) ** 2


def skewness_of_mean(counts: NDArray[Any], central: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Skewness of the mean of the means of independent cells, and its standard error by the delta method.

    Args:
        counts: values in each cell, shape (cell,).
        central: second to sixth central moment in each, shape (5, cell, *event).

    Returns:
        Both of shape (*event); the error is NaN where the moments are beyond the range of numbers.
    """
    with np.errstate(all="ignore"):
        scale = np.sqrt(central[0].max(axis=0))
        second, third, fourth, fifth, sixth = (part / scale**order for order, part in enumerate(central, start=2))
        each, cells = counts.reshape(-1, *[1] * (second.ndim - 1)).astype(float), float(len(counts))
        variance = (second / each).sum(0) / cells**2
        cubed = (third / each**2).sum(0) / cells**3
        noise = ((fourth - second**2) / each**3).sum(0) / cells**4
        together = ((fifth - 4.0 * third * second) / each**4).sum(0) / cells**5
        of_cubed = sixth - third**2 - 6.0 * fourth * second + 9.0 * second**3
        of_cubed = (of_cubed / each**5).sum(0) / cells**6
        slope = 1.5 * cubed / variance
        squared = (of_cubed - 2.0 * slope * together + slope**2 * noise) / variance**3
        known = np.isfinite(squared) & (sixth.max(axis=0) > 0.0)
        return cubed / variance**1.5, np.where(known, np.sqrt(np.maximum(squared, 0.0)), math.nan)


def check_skewness(
    skewness: Float64Array, detail: str, mcse: Float64Array | None = None, too_few: str = "", advice: str = ADVICE
) -> Check:
    """Whether an estimate is near enough to normal for its interval, be its skewness larger by twice its own error.

    Args:
        skewness: of the estimate, not of single values, for each output.
        detail: what it comes from, as "1,000 values".
        mcse: standard error of the skewness, likewise; None where it is left out.
        too_few: how many were wanted, where there are too few to show it; the check is then at best open.
        advice: what to do.
    """
    size = np.atleast_1d(np.abs(skewness)).ravel()
    error = np.zeros_like(size) if mcse is None else np.broadcast_to(mcse, np.shape(skewness)).reshape(-1)
    bound = np.where(np.isnan(size + error), math.inf, size + 2.0 * error)
    failed = size > SKEWED
    place = int(np.argmax(np.where(failed, size, -1.0) if failed.any() else bound))
    passed = False if failed.any() else True if bound[place] <= SKEWED and not too_few else None
    if too_few:
        found = f"of {detail}; {too_few}"
    else:
        found = f"of {detail}" if passed else f"few of the {detail} carry the mean"
    stated = math.nan if mcse is None else float(error[place])
    return Check(SKEWNESS, float(size[place]), SKEWED, passed, "" if passed else advice, stated, found)
