"""Kernel Stein discrepancy: how far draws are from a density of which only the score is known."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ppl_models.checks import Check
from ppl_models.diagnostics.scored_draws import (
    DRAWS_PER_PARAMETER,
    ScoredDraws,
    UnmeasurableError,
    Whitened,
    scored_draws,
    whitened,
)
from ppl_models.errors import OptionError

NAME = "kernel Stein discrepancy"
BLOCK = 250  # rows of the kernel matrix held at a time

Float64Array = NDArray[np.float64]


@dataclass(frozen=True)
class SteinDiscrepancy:
    """A squared kernel Stein discrepancy and what it would be for exact draws.

    Attributes:
        value: U-statistic of the squared discrepancy, in nats squared; around zero for exact draws, also negative.
        null: bootstrap replicates of the same for exact draws, shape (replicate,).
        by_coordinate: the shares of the coordinates in `value`, shape (dim,); they sum to it.
        num_draws: draws used.
    """

    value: float
    null: Float64Array
    by_coordinate: Float64Array
    num_draws: int

    @property
    def p_value(self) -> float:
        """Share of the replicates that are at least as large, the value itself counted among them."""
        return float((1 + (self.null >= self.value).sum()) / (1 + self.null.size))


def stein_discrepancy(
    points: ArrayLike, scores: ArrayLike, *, num_bootstrap: int = 500, seed: int = 0
) -> SteinDiscrepancy:
    """Squared kernel Stein discrepancy of draws that are already scaled.

    With the kernel k(x, y) = (1 + |x - y|^2 / dim)^(-1/2) the Stein kernel is

        h(x, y) = s(x).s(y) k + s(x).grad_y k + s(y).grad_x k + trace grad_x grad_y k,

    whose mean over pairs of draws is zero where they come from the density with score s. The kernel decays slowly,
    without which a discrepancy is blind to lost tails in higher dimensions.

    The null distribution of the degenerate U-statistic is that of multinomial weights: sum over i != j of
    (w_i - 1/n) (w_j - 1/n) h_ij, w n times drawn from n cells.

    Args:
        points: independent draws, shape (draw, dim), in coordinates of about unit variance.
        scores: gradient of the log density with respect to these coordinates, shape (draw, dim).
        num_bootstrap: bootstrap replicates.
        seed: seed of the bootstrap.

    Returns:
        The discrepancy. Memory: 250 rows of the kernel matrix at a time.

    Gorham and Mackey (2017), Measuring sample quality with kernels, ICML. Liu, Lee and Jordan (2016), A kernelized
    Stein discrepancy for goodness-of-fit tests, ICML.
    """
    found, gradients = np.asarray(points, dtype=float), np.asarray(scores, dtype=float)
    num_draws, dim = found.shape
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(num_draws, np.full(num_draws, 1.0 / num_draws), size=num_bootstrap)
    weights = counts / num_draws - 1.0 / num_draws
    replicates, by_coordinate = np.zeros(num_bootstrap), np.zeros(dim)
    for start, kernel, first, second in _kernel_blocks(found):
        stop = start + len(kernel)
        x, s = found[start:stop], gradients[start:stop]
        stein = (s @ gradients.T) * kernel + _cross(x, s, found, gradients) * first / dim + first
        stein -= second * 3.0 / dim
        stein[np.arange(len(x)), np.arange(start, stop)] = 0.0
        replicates += np.einsum("bi,bi->b", weights[:, start:stop] @ stein, weights)
        by_coordinate += _shares(x, s, found, gradients, (kernel, first))
    pairs = num_draws * (num_draws - 1)
    return SteinDiscrepancy(
        float(by_coordinate.sum() / pairs), replicates * num_draws**2 / pairs, by_coordinate / pairs, num_draws
    )


def check_stein(
    points: ArrayLike,
    scores: ArrayLike,
    labels: Sequence[str] | None = None,
    *,
    num_draws: int = 1_000,
    level: float = 0.01,
    num_bootstrap: int = 500,
    seed: int = 0,
) -> Check:
    """Test whether a guide's draws could come from the posterior, by the posterior's score alone.

    The draws are whitened by their own covariance, or only scaled by their sds where there are fewer than ten draws for
    each parameter; the detail says which. The test sees wrong means, widths, dependence, skewness and tails. It does
    not see modes that the guide misses: within one mode the score of the whole is that of the mode (Wenliang and
    Kanagawa 2020). It is a test and not a measure of size: with more draws smaller errors are found. Its power
    falls with the dimension: 1,000 draws with one parameter of half the width are caught every time if it is the only
    one, four times in five if it is one of ten, and hardly ever as one of thirty, where `check_scores` still sees it.

    Args:
        points: independent draws of the guide in unconstrained space, shape (draw, dim); at least 200.
        scores: gradient of the log density at the points, in nats per unit, shape (draw, dim). Up to 1 % may be NaN or
            infinite; these draws are left out.
        labels: names of the parameters; `x[0]`, `x[1]`, … where none are given.
        num_draws: the most draws to use, evenly spaced; time grows with its square.
        level: rate of false alarms, above 1 / (num_bootstrap + 1).
        num_bootstrap: bootstrap replicates behind the limit.
        seed: seed of the bootstrap.

    Returns:
        The check `kernel Stein discrepancy`: value the U-statistic of the squared discrepancy in whitened coordinates
        (nats squared), limit its bootstrap quantile; the detail gives the p-value and the parameter with the largest
        share. `passed` is None and the value NaN where it cannot be measured, as in `score_moments`.

    Raises:
        DataError: the shapes do not match, or the labels do not.
        OptionError: fewer than 200 draws asked for, or a level that so few replicates cannot tell.
    """
    if num_draws < 200 or not 1.0 / (num_bootstrap + 1) < level < 1.0:
        raise OptionError(
            f"num_draws={num_draws}, level={level}, num_bootstrap={num_bootstrap}: needs at least 200 draws, and a "
            "level between 1 / (num_bootstrap + 1) and 1. Raise num_draws or num_bootstrap."
        )
    try:
        draws = scored_draws(points, scores, labels)
        correlations = len(draws.points) >= DRAWS_PER_PARAMETER * draws.points.shape[1]
        white = whitened(draws, correlations=correlations)
    except UnmeasurableError as error:
        return Check(NAME, math.nan, 0.0, None, "", detail=f"not measured: {error}")
    return _judged(draws, white, correlations, num_draws, level, num_bootstrap, seed)


def _judged(
    draws: ScoredDraws,
    white: Whitened,
    correlations: bool,
    num_draws: int,
    level: float,
    num_bootstrap: int,
    seed: int,
) -> Check:
    chosen = np.linspace(0, len(white.scores) - 1, min(num_draws, len(white.scores))).astype(int)
    found = stein_discrepancy(white.coordinates[chosen], white.scores[chosen], num_bootstrap=num_bootstrap, seed=seed)
    limit = float(np.quantile(found.null, 1.0 - level, method="higher"))
    worst = draws.labels[int(found.by_coordinate.argmax())]
    how = "whitened by their covariance" if correlations else "scaled by their sds"
    detail = f"p = {found.p_value:.2g} with {found.num_draws:,} draws {how}; largest share: {worst}"
    passed = found.value <= limit
    advice = "" if passed else "use a richer guide, or fit for longer; the score moments say what is off"
    return Check(NAME, found.value, limit, passed, advice, float(found.null.std(ddof=1)), detail)


def _kernel_blocks(points: Float64Array) -> Iterator[tuple[int, Float64Array, Float64Array, Float64Array]]:
    """By rows: k = t^(-1/2), t^(-3/2), and |x - y|^2 / dim t^(-5/2), where t = 1 + |x - y|^2 / dim."""
    dim = points.shape[1]
    squares = (points**2).sum(axis=1)
    for start in range(0, len(points), BLOCK):
        rows = points[start : start + BLOCK]
        distance = squares[start : start + BLOCK, None] + squares - 2.0 * (rows @ points.T)
        distance = np.maximum(distance, 0.0) / dim
        inverse = 1.0 / (1.0 + distance)
        kernel = np.sqrt(inverse)
        first = kernel * inverse
        yield start, kernel, first, distance * first * inverse


def _cross(x: Float64Array, s: Float64Array, points: Float64Array, scores: Float64Array) -> Float64Array:
    """(s(x) - s(y)).(x - y) for all pairs, shape (row, draw)."""
    own_rows, own = (s * x).sum(axis=1), (scores * points).sum(axis=1)
    return own_rows[:, None] + own - s @ points.T - x @ scores.T


def _shares(
    x: Float64Array,
    s: Float64Array,
    points: Float64Array,
    scores: Float64Array,
    kernels: tuple[Float64Array, Float64Array],
) -> Float64Array:
    """Sum of the Stein kernel over a block's pairs of different draws, coordinate by coordinate, shape (dim,)."""
    dim = x.shape[1]
    kernel, first = kernels
    inverse = (first / kernel) * first  # t^(-5/2)
    total = np.einsum("ti,ti->i", s, kernel @ scores)
    rows, columns = first.sum(axis=1), first.sum(axis=0)
    total += (
        rows @ (s * x)
        + columns @ (scores * points)
        - np.einsum("ti,ti->i", s, first @ points)
        - np.einsum("ti,ti->i", x, first @ scores)
    ) / dim
    total += first.sum() / dim
    squares = (
        inverse.sum(axis=1) @ x**2 + inverse.sum(axis=0) @ points**2 - 2.0 * np.einsum("ti,ti->i", x, inverse @ points)
    )
    total -= 3.0 * squares / dim**2
    # a draw with itself: t = 1, so that the kernel is |s|^2 + 1 in units of dim
    return total - (s**2).sum(axis=0) - len(x) / dim
