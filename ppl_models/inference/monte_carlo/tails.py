"""How heavy the tails of an integrand are, from a bounded reservoir of its most extreme values."""

import math

import numpy as np
import torch
from numpy.typing import NDArray

from ppl_models.checks import Check
from ppl_models.inference.monte_carlo.moments import SPREAD
from ppl_models.inference.pareto_tail import smooth_tail, tail_length

Float64Array = NDArray[np.float64]

CAPACITY = 1000
"""Extreme values kept of each side; the error of k-hat is then (1 + k) / 30."""
FIRST = 8 * CAPACITY
"""Values that set the first threshold, which spares the rest of a long chunk its sorting."""
COLUMNS = 64
"""Outputs whose tails are watched, the first ones."""
LEAST_DRAWS = 100
LIMIT, DOUBTFUL = 0.7, 0.5
NAME = "tails of f (k-hat)"
ADVICE = "take method='importance' with a heavier proposal, or another f"


class Tails:
    """Both tails of values that come in chunks; memory does not grow with their number."""

    def __init__(self) -> None:
        self.count = 0
        self._num_outputs = 1
        self._sides: list[tuple[_Largest, _Largest]] = []

    def add(self, values: torch.Tensor) -> None:
        """Take in a chunk, shape (draw, *event)."""
        columns = values.reshape(values.shape[0], -1)[:, :COLUMNS]
        if columns.element_size() < 4:
            columns = columns.float()
        # plain NumPy picks the few values beyond a threshold several times faster than torch
        columns = columns.cpu().numpy()
        if not self._sides:
            self._num_outputs = math.prod(values.shape[1:])
            self._sides = [(_Largest(), _Largest()) for _ in range(columns.shape[1])]
        self.count += len(columns)
        for column, (upper, lower) in enumerate(self._sides):
            chosen = columns[:, column]
            upper.add(chosen)
            lower.add(-chosen)

    def khat(self) -> Float64Array:
        """Shape of the generalised Pareto tail of each side, shape (output, 2); NaN where it cannot be fitted."""
        num_tail = min(tail_length(self.count), CAPACITY - 1)
        if self.count < LEAST_DRAWS:
            return np.full((len(self._sides), 2), math.nan)
        largest = [side.ordered(num_tail + 1) for sides in self._sides for side in sides]
        return _shapes(np.array(largest)).reshape(-1, 2)

    def checks(self) -> tuple[Check, ...]:
        """Whether f varies at all, and whether it has a variance, as far as its tails show it."""
        ends = [(upper.ordered(1)[0], -lower.ordered(1)[0]) for upper, lower in self._sides]
        still = sum(bool(high == low) for high, low in ends)
        if still:
            which = "" if self._num_outputs == 1 else f" of {still:,} outputs"
            detail = f"all {self.count:,} values{which} are equal"
            advice = "raise num_draws, or take method='importance'; ignore this where f is a constant"
            return (Check(SPREAD, 0.0, 0.0, None, advice, detail=detail),)
        return (self._tail(),)

    def _tail(self) -> Check:
        if self.count < LEAST_DRAWS or not self._sides:
            detail = f"{self.count:,} draws are too few, wanted {LEAST_DRAWS}"
            return Check(NAME, math.nan, LIMIT, None, "raise num_draws", detail=detail)
        khat = self.khat()
        if np.isnan(khat).all():
            return Check(NAME, math.nan, LIMIT, None, "raise num_draws", detail="ties among the most extreme values")
        worst = float(np.nanmax(khat))
        output, side = np.unravel_index(int(np.nanargmax(khat)), khat.shape)
        where = f"{('upper', 'lower')[side]} tail" + ("" if self._num_outputs == 1 else f" of output {output}")
        mcse = (1.0 + max(worst, 0.0)) / math.sqrt(min(tail_length(self.count), CAPACITY - 1))
        if worst > LIMIT:
            detail = f"{where}: the variance of f is infinite, or so large that these draws do not show it"
            return Check(NAME, worst, LIMIT, False, ADVICE, mcse, detail)
        if worst > DOUBTFUL:
            detail = f"{where}: the variance of f is infinite where k is 0.5 or more"
            return Check(NAME, worst, LIMIT, None, f"raise num_draws, or {ADVICE}", mcse, detail)
        return Check(NAME, worst, LIMIT, True, "", mcse, f"{where}: the variance is finite where k is below 0.5")


class _Largest:
    """The largest of all values seen."""

    def __init__(self) -> None:
        self._kept: list[Float64Array] = []
        self._num_kept = 0
        self._threshold = -math.inf

    def add(self, values: Float64Array) -> None:
        if self._threshold == -math.inf and len(values) > FIRST:
            self.add(values[:FIRST])
            values = values[FIRST:]
        if self._threshold > -math.inf:
            values = values[values > self._threshold]
        if len(values):
            self._kept.append(values)
            self._num_kept += len(values)
        if self._num_kept >= 2 * CAPACITY:
            self._settle()

    def _settle(self) -> None:
        together = np.concatenate(self._kept)
        if len(together) > CAPACITY:
            together = np.partition(together, -CAPACITY)[-CAPACITY:]
            self._threshold = float(together[0])
        self._kept, self._num_kept = [together], len(together)

    def ordered(self, count: int) -> Float64Array:
        self._settle()
        return np.sort(self._kept[0])[-count:].astype(np.float64)


def _shapes(largest: Float64Array) -> Float64Array:
    """k-hat of each row of ascending values, of which the first is the cutoff."""
    cutoff, top = largest[:, :1], largest[:, -1:]
    width = np.where(top > cutoff, top - cutoff, 1.0)
    # k-hat knows neither location nor scale: put the tail between a half and one, where logarithms are harmless
    ratios = np.log(0.5 + 0.5 * (largest - cutoff) / width)
    ratios -= ratios[:, -1:]
    return smooth_tail(ratios, np.full(len(ratios), -1.0))[0]
