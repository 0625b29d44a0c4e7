"""The score-corrected moments held against the limits of moments."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ppl_models.checks import Check
from ppl_models.diagnostics.moments import MOMENTS, RESOLUTION, Judged, Moment, describe, judge, unmeasured_table
from ppl_models.diagnostics.score_moments import ScoreMoments, fitted_line, score_moments
from ppl_models.diagnostics.scored_draws import scored_draws, whitened
from ppl_models.diagnostics.stein_statistics import Shape, shape_statistics

# Normal guides with the right mean and sd of a log gamma density of shape 2 have a residual of 0.29 and score errors of
# 0.07 sd and 15 %, within the limits; of shape 1 (Gumbel) 0.60, 0.25 sd and 45 %, beyond them.
NEAR_NORMAL = 0.3
# Normal guides at the optimum of their ELBO show no score error; Student's t with 3, 4 and 5 degrees of freedom give a
# shape of 0.37, 0.30 and 0.26 there, and sds that are 27, 15 and 10 % too small.
SHAPE_LIMIT = 0.3

ADVICE = {
    "mean_error_sd": "fit for longer, or use a guide that keeps correlations (full_rank) or bends (iaf)",
    "log_sd_ratio": "use a guide that keeps correlations (full_rank) or bends (iaf)",
}
SCORE_MOMENTS = tuple(
    Moment(f"score {moment.name}", moment.column, moment.limit, ADVICE[moment.column])
    for moment in MOMENTS
    if moment.column in ADVICE
)


def check_scores(
    points: ArrayLike,
    scores: ArrayLike,
    labels: Sequence[str] | None = None,
    *,
    moments: ScoreMoments | None = None,
) -> tuple[Check, Check]:
    """Judge a guide's means and sds by the score-corrected ones, parameter by parameter.

    A parameter fails where it is beyond the limit (0.2 sd; a ratio of 1.2), further from zero than chance takes the
    worst of so many parameters, in all 0.27 % of the time, and where its score is near enough to linear (a residual of
    at most 0.3) for the size of the error to mean what it says. It passes where it is within the limit, which three
    Monte Carlo errors resolve, and where Stein's identities of higher order miss by at most 0.3: these tell an exact
    guide of a posterior that is not normal from a normal guide that has converged, which no mean or sd of the score
    does. The rest is undecided.

    Args:
        points: independent draws of the guide in unconstrained space, shape (draw, dim); at least 200 and ten for each
            parameter.
        scores: gradient of the log density at the points, in nats per unit, shape (draw, dim).
        labels: names of the parameters; `x[0]`, `x[1]`, … where none are given.
        moments: `score_moments` of the same, where they are there already.

    Returns:
        Checks `score mean` (value in score-corrected sd) and `score sd` (|log ratio|). `passed` is None with the value
        NaN where nothing can be measured, as in `score_moments`. A guide that misses a separate mode passes.

    Raises:
        DataError: the shapes do not match, or the labels do not.
    """
    moments = moments or score_moments(points, scores, labels)
    if moments.why:
        first, second = (_unmeasured(moment, moments.why) for moment in SCORE_MOMENTS)
        return first, second
    white = whitened(scored_draws(points, scores, labels))
    shape = shape_statistics(white.coordinates, fitted_line(white).residuals, white.root)
    first, second = (_check(moments, moment, shape) for moment in SCORE_MOMENTS)
    return first, second


def _check(moments: ScoreMoments, moment: Moment, shape: Shape) -> Check:
    table = unmeasured_table(list(moments.table.index))
    table[moments.table.columns.drop("residual")] = moments.table.drop(columns="residual")
    judged = judge(table, moment)
    bent = moments.table["residual"].to_numpy() > NEAR_NORMAL
    unshaped = (shape.values > SHAPE_LIMIT) | (RESOLUTION * shape.errors > SHAPE_LIMIT)
    doubtful = (judged.failed & bent) | (judged.passed & unshaped)
    failed, unresolved = judged.failed & ~doubtful, judged.unresolved | doubtful
    judged = Judged(judged.values, judged.errors, judged.passed & ~doubtful, failed, unresolved)
    passed = False if failed.any() else None if unresolved.any() else True
    worst = judged.worst
    assert worst is not None  # no parameter is constant here
    if passed is None and doubtful.any():
        worst = _most_doubtful(judged, doubtful, shape)
    value, error = float(judged.values[worst]), float(judged.errors[worst])
    detail = f"worst: {table.index[worst]} ({describe(moment, value)}) by the scores at {moments.num_draws:,} draws"
    if (num_failed := int(failed.sum())) > 1:
        detail += f"; {num_failed} of {len(table)} parameters are beyond the limit"
    advice = {True: "", False: moment.advice, None: "more draws"}[passed]
    if passed is None and doubtful[worst]:
        advice = "weigh it with checks that do not take the posterior for normal"
        detail += (
            f"; undecided, for the posterior is not normal there: the linear score leaves "
            f"{100 * moments.table['residual'].iloc[worst]:.0f} % unexplained and Stein's identities of higher order "
            f"miss by {shape.values[worst]:.2g} ± {shape.errors[worst]:.2g}"
        )
    return Check(moment.name, abs(value), moment.limit, passed, advice, error, detail)


def _most_doubtful(judged: Judged, doubtful: NDArray[np.bool_], shape: Shape) -> int:
    """The largest doubtful error beyond chance, else the parameter of the worst shape."""
    size = np.where(doubtful & (np.abs(judged.values) > RESOLUTION * judged.errors), np.abs(judged.values), 0.0)
    return int(size.argmax()) if size.any() else int(np.where(doubtful, shape.values, -1.0).argmax())


def _unmeasured(moment: Moment, why: str) -> Check:
    return Check(moment.name, math.nan, moment.limit, None, "", detail=f"not measured: {why}")
