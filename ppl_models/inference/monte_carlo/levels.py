"""The levels of a multilevel estimate: moments of the differences, rates, and the weak error that is left."""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ppl_models.errors import DataError, first_line
from ppl_models.inference.monte_carlo.integrand import Integrand
from ppl_models.inference.monte_carlo.moments import Moments
from ppl_models.inference.monte_carlo.sources import Draws, num_rows

Float64Array = NDArray[np.float64]
CoupledSampler = Callable[[int, int], Any]
"""A level and a number of draws give (fine, coarse) states, each by their first axis; coarse is None at level 0."""

LEAST_ALPHA = 0.5
MOST_SIGNAL = 10.0
CLEAR = 2.0
"""Standard errors from which the mean of a level says something about the rate."""
FEWEST = 10
"""Differences other than zero from which a level's variance is taken as it was measured."""
UNSEEN = 3.0
"""Of n draws: events that n draws miss altogether at most 5 % of the time, the rule of three."""
DECAYED = 0.5
"""Of the variance that the fitted rate foretells, that a level is given at least."""


class Level:
    """Draws of f(fine) - f(coarse) at one level.

    Attributes:
        index: 0 for the coarsest, whose difference is f(fine) itself.
        difference: moments of the differences.
        squares: moments of their squares about a fixed centre, which say how well the variance is known.
        fine: moments of f at the fine states.
        coarse: moments of f at the coarse ones.
        ends: smallest and largest f at a fine state, and how many there are of each, shape (2, *event) each.
        changes: how many differences were not zero; at level 0 how many were not all at one end of f, shape (*event).
        seconds: time spent.
    """

    def __init__(self, index: int, integrand: Integrand, sampler: CoupledSampler):
        self.index, self.integrand, self.sampler = index, integrand, sampler
        self.difference, self.squares, self.fine, self.coarse = Moments(), Moments(), Moments(), Moments()
        self.ends, self._at_ends, self._nonzero = np.zeros((2,)), np.zeros((2,)), np.zeros(())
        self.seconds = 0.0
        self._centre: torch.Tensor | None = None

    @property
    def count(self) -> int:
        """Draws so far."""
        return self.difference.count

    @property
    def changes(self) -> Float64Array:
        """See the attributes."""
        return np.asarray(self._nonzero if self.index else self.count - self._at_ends.max(axis=0), dtype=float)

    def draw(self, num_draws: int) -> None:
        """Take in so many more."""
        began = time.perf_counter()
        fine, coarse = self._states(num_draws)
        values = self.integrand(fine).double()
        self.fine.add(values)
        self._add_ends(values)
        if coarse is not None:
            others = self.integrand(coarse).double()
            self.coarse.add(others)
            values = values - others
        self.difference.add(values)
        self._nonzero = self._nonzero + (values != 0.0).sum(0).cpu().numpy()
        if self._centre is None:
            self._centre = values.mean(0)
        self.squares.add((values - self._centre) ** 2)
        self.seconds += time.perf_counter() - began

    def _add_ends(self, values: torch.Tensor) -> None:
        if not len(values):
            return
        ends = torch.stack([values.amin(0), values.amax(0)])
        found, counts = ends.cpu().numpy(), torch.stack([(values == end).sum(0) for end in ends]).cpu().numpy()
        if self.count == 0:
            self.ends, self._at_ends = found, counts
            return
        new = np.stack([np.minimum(self.ends[0], found[0]), np.maximum(self.ends[1], found[1])])
        self._at_ends = np.where(new == self.ends, self._at_ends, 0) + np.where(new == found, counts, 0)
        self.ends = new

    def _states(self, num_draws: int) -> tuple[Draws, Draws | None]:
        try:
            fine, coarse = self.sampler(self.index, num_draws)
        except Exception as error:
            raise DataError(
                f"q: the sampler fails at level {self.index} for {num_draws} draws: {first_line(error)}. It is called "
                "as sampler(level, num_draws) and returns (fine, coarse), with coarse None at level 0."
            ) from error
        if (coarse is None) != (self.index == 0):
            found = "None" if coarse is None else "states"
            wanted = "None" if self.index == 0 else "states that share the noise of the fine ones"
            raise DataError(f"q: the sampler's coarse part is {found} at level {self.index}, wanted {wanted}.")
        for states in (fine, coarse):
            if states is not None and num_rows(states) != num_draws:
                raise DataError(
                    f"q: the sampler returned {num_rows(states)} states at level {self.index}, wanted {num_draws}. Put "
                    "them along the first axis."
                )
        return fine, coarse


class Summary:
    """Levels put together.

    A level whose pilot draws have all f(fine) = f(coarse), or nearly all, has not shown that it adds nothing: an
    indicator changes from level to level at few draws, and by its whole range. Such a level is `few`, and is given the
    variance and the mean of three changes by the range of f that its draws missed. Every level is given at least half
    the variance that the fitted rate foretells, as Giles (2015) advises.

    Attributes:
        value: the sum of the levels' means, shape (*event).
        variance: Monte Carlo variance of the value, same shape.
        spread: variance of a draw at each level, summed over components in units of the coarsest level's, (level,).
        few: levels with fewer than `FEWEST` changes, (level, *event).
        still: outputs that had one value at all states, (*event).
        alpha: rate of the weak error, by halvings from level to level; NaN where it cannot be seen.
        beta: rate of the variance of the differences.
        bias: estimated size of the weak error that is left, same shape as the value.
        bias_seen: the part of it that the measured means show, and that another level would take away.
        degrees_of_freedom: with which the variance is known.
    """

    def __init__(self, levels: Sequence[Level], alpha: float | None):
        means = np.stack([level.difference.mean for level in levels])
        measured = np.stack([level.difference.variance for level in levels])
        counts = np.array([level.count for level in levels]).reshape(-1, *[1] * (means.ndim - 1))
        axes = tuple(range(1, means.ndim))
        scale = np.max([level.ends[1] for level in levels], axis=0) - np.min(
            [level.ends[0] for level in levels], axis=0
        )
        self.still: NDArray[np.bool_] = scale == 0.0
        self.few: NDArray[np.bool_] = np.stack([level.changes < FEWEST for level in levels]) & ~self.still
        missed = self.few * UNSEEN / counts
        unit = np.maximum(measured[0], missed[0] * scale**2)
        unit = np.where(unit > 0.0, unit, 1.0)
        self.beta = halvings(np.arange(1, len(levels)), (measured / unit).sum(axis=axes)[1:], np.ones(len(levels) - 1))
        variances = _floored(measured, missed * scale**2, self.beta)
        each, clear = variances / counts, measured / counts
        self.value, self.variance = means.sum(axis=0), each.sum(axis=0)
        self.spread: Float64Array = (variances / unit).sum(axis=axes)
        size = np.sqrt((means**2 / unit).sum(axis=axes))[1:]
        noise = np.sqrt((clear / unit).sum(axis=axes))[1:]
        self.alpha = _weak_rate(size, noise) if alpha is None else alpha
        rate = max(LEAST_ALPHA, np.nan_to_num(self.alpha, nan=LEAST_ALPHA))
        sizes = np.sqrt(np.maximum(means**2 - clear, 0.0))
        self.bias_seen = _left(sizes, rate)
        self.bias = np.maximum(self.bias_seen, _left(missed * scale, rate))
        self.degrees_of_freedom = self._degrees_of_freedom(levels, clear)

    def _degrees_of_freedom(self, levels: Sequence[Level], each: Float64Array) -> float:
        """Of a chi-squared variable whose relative variance is that of the estimated variance (Satterthwaite)."""
        errors = np.stack([level.squares.standard_error / level.count for level in levels])
        with np.errstate(divide="ignore", invalid="ignore"):
            relative = np.sqrt((errors**2).sum(axis=0)) / each.sum(axis=0)
        worst = float(np.nan_to_num(relative, nan=0.0, posinf=0.0).max())
        return math.inf if worst == 0.0 else max(2.0 / worst**2, 1.0)


def _weak_rate(size: Float64Array, noise: Float64Array) -> float:
    """Slope of the means over the levels, each weighted by its signal; NaN with fewer than two clear ones."""
    clear = size > CLEAR * noise
    if clear.sum() < 2:
        return math.nan
    # coarse levels, whose means are the clearest, are the furthest from the rate that holds in the end
    weights = (size[clear] / np.maximum(noise[clear], size[clear] / MOST_SIGNAL)) ** 2
    return halvings(np.arange(1, len(size) + 1)[clear], size[clear], weights)


def halvings(places: Any, sizes: Float64Array, weights: Float64Array) -> float:
    """How often sizes halve from level to level, by weighted least squares on their logs; NaN for fewer than two."""
    seen = sizes > 0.0
    if seen.sum() < 2:
        return math.nan
    at, logs, share = places[seen], np.log2(sizes[seen]), weights[seen] / weights[seen].sum()
    away = at - share @ at
    return -float((share * away) @ logs / ((share * away) @ away))


def _floored(measured: Float64Array, least: Float64Array, beta: float) -> Float64Array:
    """Variances of the levels, none less than its least, nor from the third on than half of what the rate foretells."""
    decay = DECAYED * 2.0 ** -max(np.nan_to_num(beta, nan=0.0), 0.0)
    found = np.maximum(measured, least)
    for level in range(2, len(found)):
        found[level] = np.maximum(found[level], decay * found[level - 1])
    return found


def _left(sizes: Float64Array, alpha: float) -> Float64Array:
    """The sum of the means of all levels that are left out, from the sizes of those of the last three."""
    found = np.zeros(sizes.shape[1:])
    for back in range(min(3, len(sizes) - 1)):
        found = np.maximum(found, sizes[-1 - back] * 2.0 ** (-alpha * back) / (2.0**alpha - 1.0))
    return found
