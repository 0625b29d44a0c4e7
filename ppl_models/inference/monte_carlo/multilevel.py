"""Multilevel Monte Carlo: many cheap draws of a coarse approximation, few of what finer ones add to it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy.stats import norm

from ppl_models.checks import Check
from ppl_models.errors import OptionError
from ppl_models.inference.monte_carlo.chunks import chunk_size, chunks
from ppl_models.inference.monte_carlo.integrand import Integrand
from ppl_models.inference.monte_carlo.levels import FEWEST, Level, Summary, halvings
from ppl_models.inference.monte_carlo.method import Estimate
from ppl_models.inference.monte_carlo.moments import SPREAD, merged
from ppl_models.inference.monte_carlo.sources import SamplerSource, Source
from ppl_models.options import check_count, check_positive

FIRST_LEVELS = 3
BIAS_SHARE = 0.5
"""Of the Monte Carlo error, that the weak error may be before a level is added."""
LEAST_DEGREES = 30.0
MOST_VARIANCE = 0.5
FALSE_ALARMS = 0.0027


@dataclass(frozen=True)
class Multilevel:
    """E[f(finest)] as a telescoping sum: E[f(X_0)] + sum over l of E[f(X_l) - f(X_{l-1})].

    q is a sampler of coupled states, `sampler(level, num_draws) -> (fine, coarse)`, with coarse None at level 0; fine
    and coarse share their noise, so that the differences have little variance and need few draws. Draws go to levels
    in proportion to sqrt(variance / cost). A level is added whenever the weak error that is left, by the fitted rate
    alpha, exceeds half the Monte Carlo error; the stated standard error is the root of the sum of both squares.

    Attributes:
        cost: of one draw at a level; None for 2**level. Measured seconds stand in the evidence, and decide nothing, so
            that a seed gives the same result on every machine.
        max_levels: the most there may be.
        pilot_draws: at a level that is new.
        alpha: rate of the weak error where it is known; None fits it.

    Giles (2008), Multilevel Monte Carlo path simulation, Operations Research 56(3); Giles (2015), Multilevel Monte
    Carlo methods, Acta Numerica 24.
    """

    cost: Callable[[int], float] | None = None
    max_levels: int = 12
    pilot_draws: int = 200
    alpha: float | None = None

    name: ClassVar[str] = "multilevel"

    def start(self, integrand: Integrand, source: Source, seed: int) -> "MultilevelRun":
        """Begin a run.

        Raises:
            OptionError: q is no sampler, or an option is out of its range.
        """
        del seed
        if not isinstance(source, SamplerSource):
            raise OptionError(
                f"method='multilevel': q is {source.label}, wanted a function sampler(level, num_draws) that returns "
                "coupled (fine, coarse) states. Take method='plain' for one level."
            )
        check_count("max_levels", self.max_levels, least=FIRST_LEVELS)
        check_count("pilot_draws", self.pilot_draws, least=10)
        if self.alpha is not None:
            check_positive("alpha", self.alpha)
        return MultilevelRun(self, integrand, source)


class MultilevelRun:
    """Levels that grow in number and in draws."""

    def __init__(self, method: Multilevel, integrand: Integrand, source: SamplerSource):
        self.method, self.integrand, self.source = method, integrand, source
        self.levels: list[Level] = []

    def extend(self, num_draws: int) -> None:
        """Make about so many more draws, all levels together; a new level takes its pilot draws at least."""
        left = num_draws
        while len(self.levels) < FIRST_LEVELS:
            left -= self._add_level()
        while left > 0:
            summary = Summary(self.levels, self.method.alpha)
            wanted = bool(np.any(summary.bias_seen > BIAS_SHARE * np.sqrt(summary.variance)))
            # a level that is hardly known gets draws before another is put on top of it
            if wanted and not summary.few[-1].any() and len(self.levels) < self.method.max_levels:
                left -= self._add_level()
                continue
            step = min(left, max(sum(level.count for level in self.levels) // 2, 1_000))
            self._allocate(summary, step)
            left -= step

    def _add_level(self) -> int:
        level = Level(len(self.levels), self.integrand, self.source.sampler)  # pyright: ignore[reportArgumentType]
        self._draw(level, self.method.pilot_draws)
        self.levels.append(level)
        return level.count

    def _allocate(self, summary: Summary, num_draws: int) -> None:
        """Bring the draws of the levels nearer to the proportions that make the error least for the cost."""
        counts = np.array([level.count for level in self.levels])
        shares = np.sqrt(summary.spread / self._costs())
        if not shares.any():
            shares = 1.0 / self._costs()
        missing = np.maximum((counts.sum() + num_draws) * shares / shares.sum() - counts, 0.0)
        for level, number in zip(self.levels, np.rint(missing * num_draws / missing.sum()), strict=True):
            self._draw(level, int(number))

    def _draw(self, level: Level, num_draws: int) -> None:
        for size in chunks(num_draws, chunk_size(self.source)):
            level.draw(size)

    def _costs(self) -> Any:
        cost = self.method.cost
        found = np.array([2.0**level.index if cost is None else float(cost(level.index)) for level in self.levels])
        if not (np.isfinite(found).all() and (found > 0.0).all()):
            raise OptionError(f"cost: found {found.tolist()} for the levels, wanted finite numbers above 0.")
        return found

    def estimate(self) -> Estimate:
        """The sum over levels; its error holds the weak error that is left."""
        summary = Summary(self.levels, self.method.alpha)
        counts, costs = [level.count for level in self.levels], self._costs()
        error = np.sqrt(summary.variance + summary.bias**2)
        with np.errstate(divide="ignore", invalid="ignore"):
            ess = np.where(summary.variance > 0.0, self.levels[-1].fine.variance / summary.variance, sum(counts))
        evidence = {
            "levels": len(self.levels),
            "draws": counts,
            "means": [level.difference.mean for level in self.levels],
            "variances": [level.difference.variance for level in self.levels],
            "costs": costs.tolist(),
            "alpha": summary.alpha,
            "beta": summary.beta,
            "gamma": -halvings(np.arange(1, len(costs)), costs[1:], np.ones(len(costs) - 1)),
            "changes": [level.changes for level in self.levels],
            "bias": summary.bias,
            "monte_carlo_error": np.sqrt(summary.variance),
            "seconds": [level.seconds for level in self.levels],
        }
        return Estimate(
            summary.value, error, sum(counts), ess, summary.degrees_of_freedom, self._checks(summary), evidence
        )

    def _checks(self, summary: Summary) -> tuple[Check, ...]:
        return (
            self._check_bias(summary),
            self._check_coupling(),
            self._check_decay(),
            *self._check_changes(summary),
            _check_variance(summary),
            *_check_spread(summary),
        )

    def _check_bias(self, summary: Summary) -> Check:
        error = np.sqrt(np.atleast_1d(summary.variance)).ravel()
        bias = np.atleast_1d(summary.bias).ravel()
        worst = int(np.argmax(bias - error))
        value, limit = float(bias[worst]), float(error[worst])
        full = len(self.levels) >= self.method.max_levels
        detail = f"of {len(self.levels)} levels, beside the Monte Carlo error; alpha = {summary.alpha:.2f}"
        if value <= limit:
            return Check("weak error", value, limit, True, "", detail=detail)
        advice = "raise max_levels" if full else "raise num_draws"
        return Check("weak error", value, limit, False if full else None, advice, detail=detail)

    def _check_coupling(self) -> Check:
        """Whether the coarse states of each level have the expectation of the fine ones of the level below."""
        scores = []
        for lower, upper in zip(self.levels, self.levels[1:], strict=False):
            gap = np.abs(upper.coarse.mean - lower.fine.mean)
            # one variance for both, as they have one distribution: that of few draws alone may be far too small
            variance = merged((upper.coarse, lower.fine)).variance
            error = np.sqrt(variance * (1.0 / upper.count + 1.0 / lower.count))
            with np.errstate(divide="ignore", invalid="ignore"):
                scores.append(np.where(gap > 0.0, gap / error, 0.0).ravel())
        together = np.stack(scores)
        limit = float(norm.isf(FALSE_ALARMS / 2.0 / together.size))
        value, passed = float(together.max()), bool(together.max() <= limit)
        advice = "" if passed else "make coarse states at level l distributed as fine ones at level l - 1"
        return Check("coupling", value, limit, passed, advice, detail="coarse against fine means, in standard errors")

    def _check_decay(self) -> Check:
        last = self.levels[-1]
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = last.difference.variance / last.fine.variance
        value = float(np.nan_to_num(ratio, nan=0.0).max())
        passed = value <= MOST_VARIANCE
        advice = "" if passed else "let fine and coarse states share their noise"
        detail = "of the finest difference, beside that of f itself"
        return Check("variance of the differences", value, MOST_VARIANCE, passed, advice, detail=detail)

    def _check_changes(self, summary: Summary) -> tuple[Check, ...]:
        """Whether each level has more than a few draws at which its difference is not zero."""
        if summary.still.all():
            return ()
        fewest = [float(level.changes[~summary.still].min()) for level in self.levels]
        worst = int(np.argmin(fewest))
        detail = f"in which f changes, of {self.levels[worst].count:,} at level {worst}"
        known = True if fewest[worst] >= FEWEST else None
        advice = "" if known else "raise num_draws, or pilot_draws, or take a smoother f"
        return (Check("draws with a change", fewest[worst], FEWEST, known, advice, detail=detail),)


def _check_spread(summary: Summary) -> tuple[Check, ...]:
    if not summary.still.any():
        return ()
    advice = "raise num_draws; ignore this where f is a constant"
    return (Check(SPREAD, 0.0, 0.0, None, advice, detail="all values of an output are equal"),)


def _check_variance(summary: Summary) -> Check:
    value = summary.degrees_of_freedom
    passed = value >= LEAST_DEGREES
    advice = "" if passed else "raise num_draws, or pilot_draws: rare large differences carry the variance"
    shown = min(value, 1e9) if math.isfinite(value) else value
    return Check("degrees of freedom", shown, LEAST_DEGREES, passed, advice, detail="of the standard error")
