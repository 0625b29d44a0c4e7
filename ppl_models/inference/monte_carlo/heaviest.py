"""The largest weights of many draws, kept; and the tails of the terms of a sum."""

import math

import numpy as np
from numpy.typing import NDArray

from ppl_models.checks import Check
from ppl_models.inference.pareto_tail import smooth_tail, tail_length

Float64Array = NDArray[np.float64]

MIN_DRAWS = 100
"""Draws from which a tail can be fitted."""
MOST_KEPT = 10_000
MOST_NUMBERS = 4_000_000
KHAT_GOOD, KHAT_LIMIT = 0.5, 0.7
HEAVIER = "give a proposal with heavier tails"


def num_kept(count: int) -> int:
    """How many of the largest must be kept so that the tail of many more draws is among them.

    Twice the tail of 3 sqrt(n): of the tail of N > n draws, about 3 n / sqrt(N) are among the first n.
    """
    return 6 * math.isqrt(count) + 16


class Heaviest:
    """The draws of the largest weights with their values; the others are handed back, so that memory stays bounded."""

    def __init__(self) -> None:
        self.count = 0
        self.log_weights = np.zeros(0)
        self.values: Float64Array = np.zeros((0, 0))

    def add(self, log_weights: Float64Array, values: Float64Array) -> tuple[Float64Array, Float64Array]:
        """Take in draws, and give back those that are no longer among the heaviest.

        Args:
            log_weights: nats, shape (draw,); -inf is a weight of zero.
            values: shape (draw, component).
        """
        self.count += len(values)
        if not self.values.size:
            self.values = self.values.reshape(0, values.shape[1])
        self.log_weights = np.concatenate([self.log_weights, log_weights])
        self.values = np.concatenate([self.values, values])
        most = max(num_kept(self.count), min(MOST_KEPT, MOST_NUMBERS // max(values.shape[1], 1)))
        if len(self.log_weights) <= most:
            return np.zeros(0), values[:0]
        order = np.argpartition(self.log_weights, -most)
        leaving, staying = order[:-most], order[-most:]
        evicted = self.log_weights[leaving], self.values[leaving]
        self.log_weights, self.values = self.log_weights[staying], self.values[staying]
        return evicted

    def smoothed(self) -> tuple[Float64Array, float]:
        """Log weights of the draws kept with the tail of all draws' weights smoothed, and k-hat.

        Returns:
            The log weights, shape (kept,), and k-hat: NaN from fewer than 100 draws. What has no fit is not smoothed.
        """
        log_weights = self.log_weights.copy()
        num_tail = tail_length(self.count)
        if self.count < MIN_DRAWS or len(log_weights) <= num_tail or not np.isfinite(log_weights).any():
            return log_weights, math.nan
        top = log_weights.max()
        places = np.argsort(log_weights)[-num_tail - 1 :]
        khat, tail = smooth_tail((log_weights[places] - top)[None], np.array([log_weights.min() - top]))
        if np.isfinite(khat[0]):
            log_weights[places[1:]] = tail[0] + top
        return log_weights, float(khat[0])


class LargestTerms:
    """The largest absolute terms of a sum, and how heavy their tail is."""

    def __init__(self) -> None:
        self.count: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self.logs: Float64Array = np.zeros((0, 0))

    def add(self, log_terms: Float64Array) -> None:
        """Take in log |term| in nats, shape (draw, component); -inf for a term of zero, which no tail holds."""
        if not self.count.size:
            self.count, self.logs = np.zeros(log_terms.shape[1], dtype=np.int64), log_terms[:0]
        self.count += np.isfinite(log_terms).sum(axis=0)
        together = np.concatenate([self.logs, log_terms])
        most = num_kept(int(self.count.max(initial=0)))
        self.logs = np.partition(together, -most, axis=0)[-most:] if len(together) > most else together

    def khat(self) -> Float64Array:
        """k-hat of each component, shape (component,); NaN where fewer than 100 terms are not zero."""
        found = np.full(len(self.count), math.nan)
        ordered = np.sort(self.logs, axis=0)
        for count in np.unique(self.count[self.count >= MIN_DRAWS]):
            columns = np.flatnonzero(self.count == count)
            largest = ordered[-tail_length(int(count)) - 1 :, columns].T
            # where the least term is no longer known, the cutoff stands for it: equal terms are equal there too
            largest = largest - largest[:, -1:]
            found[columns], _ = smooth_tail(largest, largest[:, 0].copy())
        return found


def check_tail(name: str, khat: float, smoothed: bool, advice: str) -> Check:
    """Judge a sum by the tail of its terms.

    Args:
        name: of the check.
        khat: the largest over the components; NaN where it was not measured.
        smoothed: whether the weights are smoothed.
        advice: what to do where it fails.
    """
    if math.isnan(khat):
        detail = f"fewer than {MIN_DRAWS} terms that are not zero, or ties among the largest"
        return Check(name, khat, KHAT_LIMIT, None, "raise num_draws", detail=detail)
    if khat > KHAT_LIMIT:
        return Check(name, khat, KHAT_LIMIT, False, advice, detail="so heavy a tail hides what is beyond the draws")
    if khat <= KHAT_GOOD:
        return Check(name, khat, KHAT_LIMIT, True, "")
    # smoothing makes the estimate usable here, and cuts off a part of what an unbounded f has in the tail
    doubt = "what is smoothed away may exceed the error" if smoothed else "the variance may be infinite"
    return Check(name, khat, KHAT_LIMIT, None, advice, detail=doubt)
