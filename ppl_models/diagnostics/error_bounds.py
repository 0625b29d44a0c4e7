"""Upper bounds on the error of a fit's means and standard deviations, from CUBO and ELBO."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from ppl_models.checks import Check
from ppl_models.diagnostics.bounds import cubo_estimate
from ppl_models.diagnostics.deviations import is_constant
from ppl_models.diagnostics.elbo import elbo_estimate
from ppl_models.diagnostics.khat import KHAT_GOOD, pareto_khat
from ppl_models.diagnostics.moments import MOMENTS, RESOLUTION
from ppl_models.errors import DataError

NAME = "error bound"
UNBOUNDED = 5.0  # log ratio: a factor of 148 says as little as none
BOUNDS = ("mean_error_sd", "log_sd_ratio", "wasserstein_sd")

Float64Array = NDArray[np.float64]


@dataclass(frozen=True)
class MomentBounds:
    """Largest errors that a chi-squared divergence allows, each in the guide's own sds, shape (parameter,).

    Attributes:
        mean_error_sd: |mean of p - mean of q|.
        log_sd_ratio: |log (sd of q / sd of p)|; infinite where the sd of p may be zero.
        wasserstein_sd: 2-Wasserstein distance of the marginals.
    """

    mean_error_sd: Float64Array
    log_sd_ratio: Float64Array
    wasserstein_sd: Float64Array


@dataclass(frozen=True)
class ErrorBounds:
    """Upper confidence bounds on the errors of a fit.

    Attributes:
        table: indexed by parameter, the columns of `MomentBounds`.
        wasserstein: bound on the 2-Wasserstein distance of the joint distributions, each parameter in its sd under the
            guide.
        chi_squared: upper bound on chi^2(p || q), E_q[(p/q - 1)^2].
        cubo: CUBO_2 in nats.
        cubo_mcse: its Monte Carlo error.
        elbo: the ELBO in nats.
        elbo_mcse: its Monte Carlo error.
        khat: Pareto k-hat of the weights.
        why: why nothing was measured; empty where it was.
    """

    table: pd.DataFrame = field(repr=False)
    wasserstein: float
    chi_squared: float
    cubo: float
    cubo_mcse: float
    elbo: float
    elbo_mcse: float
    khat: float
    why: str = ""


def moment_bounds(chi_squared: float, fourth_moments: ArrayLike) -> MomentBounds:
    r"""Errors that a divergence chi^2(p || q) = E_q[(w - 1)^2], w = p/q, allows.

    For any f, |E_p f - E_q f| = |E_q[(w - 1) (f - E_q f)]| <= chi sd_q(f) (Cauchy-Schwarz). In units where q has mean 0
    and sd 1 in a parameter z:

    - f = z: the means differ by at most chi.
    - f = z^2, with sd sqrt(E_q z^4 - 1) =: k: E_p z^2 lies within 1 -+ chi k. The variance of p is at most that, and
      falls short of it by the square of the difference of the means, at most chi^2.
    - For the 2-Wasserstein distance W, W^2 <= 2 E_q[z^2 |w - 1|] (Villani 2009, theorem 6.15, which moves only what p
      and q do not share) <= 2 chi sqrt(E_q z^4). This is the polynomial-moment bound of Huggins et al. with the
      constant of the theorem it rests on, sqrt(2) where they state 2.
    - In one dimension W^2 is at least the sum of the squared differences of means and sds (Gelbrich 1990), so that it
      bounds both where that is less.

    Args:
        chi_squared: an upper bound on chi^2(p || q); exp(2 (CUBO_2 - ELBO)) - 1 is one, for ELBO <= log Z.
        fourth_moments: E_q z^4 of each standardised parameter, shape (parameter,); at least 1.

    Returns:
        The bounds. They are attained by no fit: the error is often ten times smaller.

    Huggins, Kasprzak, Campbell and Broderick (2020), Validated variational inference via practical posterior error
    bounds, AISTATS.
    """
    chi = math.sqrt(max(chi_squared, 0.0))  # an exact guide's is negative by rounding
    fourth = np.asarray(fourth_moments, dtype=float)
    wasserstein = np.sqrt(2.0 * chi * np.sqrt(fourth))
    mean = np.minimum(chi, wasserstein)
    spread = chi * np.sqrt(np.maximum(fourth - 1.0, 0.0))
    upper = np.minimum(np.sqrt(1.0 + spread), 1.0 + wasserstein)
    lower = np.maximum(np.sqrt(np.maximum(1.0 - spread - mean**2, 0.0)), 1.0 - wasserstein)
    with np.errstate(divide="ignore"):
        log_ratio = np.maximum(np.log(upper), -np.log(np.maximum(lower, 0.0)))
    return MomentBounds(mean, log_ratio, wasserstein)


def wasserstein_bound(chi_squared: float, fourth_moment: float) -> float:
    """Bound on the 2-Wasserstein distance of two joint distributions, (2 chi sqrt(E_q |z|^4))^(1/2).

    Args:
        chi_squared: an upper bound on chi^2(p || q).
        fourth_moment: E_q |z - mean|^4, in any unit; the bound has the unit of z.

    Villani (2009), Optimal transport, theorem 6.15; Huggins et al. (2020), section 4.
    """
    return math.sqrt(2.0 * math.sqrt(max(chi_squared, 0.0) * fourth_moment))


def posterior_error_bounds(log_ratio: ArrayLike, points: ArrayLike, labels: Sequence[str] | None = None) -> ErrorBounds:
    """Bound the errors of a fit's means, sds and distribution without a baseline.

    chi^2(p || q) = exp(2 (CUBO_2 - log Z)) - 1 is bounded by putting the ELBO for log Z; three Monte Carlo errors are
    added to the exponent, and to each fourth moment of the draws, so that the bounds are upper confidence bounds as far
    as these errors can be trusted. What the draws never reach, a separate mode, is not bounded.

    Args:
        log_ratio: log p - log q in nats, shape (draw,), independent draws of q; at least 100.
        points: the same draws, shape (draw, parameter), in any coordinates.
        labels: names of the parameters; `x[0]`, `x[1]`, … where none are given.

    Returns:
        The bounds; all are NaN with the reason in `why` where k-hat is above 0.5, for then the second moment of the
        weights is infinite, where draws are too few, constant or not finite, or where a draw has zero density.

    Raises:
        DataError: the shapes do not match.
    """
    found, names = _validated(log_ratio, points, labels)
    why, khat = _reason_not_to(log_ratio, found)
    if why:
        table = pd.DataFrame(math.nan, index=pd.Index(names, name="parameter"), columns=pd.Index(BOUNDS))
        nan = math.nan
        return ErrorBounds(table, nan, nan, nan, nan, nan, nan, khat, why)
    ratios = np.asarray(log_ratio, dtype=float)
    cubo, cubo_error = cubo_estimate(ratios)
    elbo, elbo_error = elbo_estimate(ratios)
    chi_squared = _chi_squared(ratios, cubo, elbo)
    standard = (found - found.mean(axis=0)) / found.std(axis=0)
    fourth = _upper_mean(standard**4)
    bounds = moment_bounds(chi_squared, np.maximum(fourth, 1.0))
    columns = {name: getattr(bounds, name) for name in BOUNDS}
    table = pd.DataFrame(columns, index=pd.Index(names, name="parameter"))
    joint = float(_upper_mean((standard**2).sum(axis=1, keepdims=True) ** 2)[0])
    wasserstein = wasserstein_bound(chi_squared, joint)
    return ErrorBounds(table, wasserstein, chi_squared, cubo, cubo_error, elbo, elbo_error, khat)


def check_error_bound(log_ratio: ArrayLike, points: ArrayLike, labels: Sequence[str] | None = None) -> Check:
    """Whether the error of every mean and sd is bounded within the limits, 0.2 sd and a ratio of 1.2.

    A bound that is too large says nothing, for it is loose: this check passes or is undecided, and never fails.

    Args:
        log_ratio: log p - log q in nats, shape (draw,), independent draws of q; at least 100.
        points: the same draws, shape (draw, parameter), in any coordinates.
        labels: names of the parameters; `x[0]`, `x[1]`, … where none are given.

    Returns:
        The check `error bound`: value the largest bound on a mean, in the guide's sds. `passed` is None where it, or
        the bound on an sd, is beyond the limit, and, with the value NaN, where `posterior_error_bounds` has none.

    Raises:
        DataError: the shapes do not match.
    """
    limits = {moment.column: moment.limit for moment in MOMENTS}
    limit = limits["mean_error_sd"]
    bounds = posterior_error_bounds(log_ratio, points, labels)
    if bounds.why:
        return Check(NAME, math.nan, limit, None, "", detail=f"not measured: {bounds.why}")
    means, sds = (bounds.table[name].to_numpy(dtype=float) for name in ("mean_error_sd", "log_sd_ratio"))
    value, widest = float(means.max()), int(sds.argmax())
    passed = True if value <= limit and sds[widest] <= limits["log_sd_ratio"] else None
    of_sds = "no bound on the sds"
    if sds[widest] < UNBOUNDED:
        of_sds = f"no sd by more than a factor of {math.exp(sds[widest]):.3g} ({bounds.table.index[widest]})"
    detail = (
        f"no mean is further off than {value:.2g} sd; {of_sds}; CUBO - ELBO = {bounds.cubo - bounds.elbo:.2g} nats; "
        "modes without draws are not covered"
    )
    return Check(
        NAME, value, limit, passed, "" if passed else "the bound is loose: rely on other checks", detail=detail
    )


def _validated(log_ratio: ArrayLike, points: ArrayLike, labels: Sequence[str] | None) -> tuple[Float64Array, list[str]]:
    found = np.asarray(points, dtype=float)
    if found.ndim != 2 or found.shape[1] == 0 or np.shape(log_ratio) != (len(found),):
        raise DataError(
            f"log_ratio and points: shapes {np.shape(log_ratio)} and {found.shape}, need (draw,) and (draw, parameter)."
            " Stack the chains and pass the ratios of these very draws."
        )
    names = [f"x[{place}]" for place in range(found.shape[1])] if labels is None else list(labels)
    if len(names) != found.shape[1]:
        raise DataError(f"labels: {len(names)} names for {found.shape[1]} parameters; need one for each.")
    return found, names


def _reason_not_to(log_ratio: ArrayLike, points: Float64Array) -> tuple[str, float]:
    """Why there is no bound, empty where there is one, and k-hat."""
    try:
        khat = pareto_khat(log_ratio)
    except DataError as error:
        return str(error), math.nan
    if not khat <= KHAT_GOOD:
        return f"k-hat is {khat:.2f}, above 0.5 the second moment of the weights is infinite", khat
    if np.isneginf(np.asarray(log_ratio, dtype=float)).any():
        return "a draw has zero posterior density, so that the ELBO is minus infinity", khat
    if not np.isfinite(points).all():
        return "some draws are NaN or infinite", khat
    if is_constant(points.T).any():
        return "a parameter is constant among the draws", khat
    return "", khat


def _chi_squared(ratios: Float64Array, cubo: float, elbo: float) -> float:
    """Upper confidence bound on exp(2 (CUBO_2 - ELBO)) - 1; both come from the same draws, whose errors are joint."""
    relative = np.exp(2.0 * (ratios - cubo))
    error = float((relative - 2.0 * ratios).std(ddof=1)) / math.sqrt(ratios.size)
    exponent = 2.0 * (cubo - elbo) + RESOLUTION * error
    return math.expm1(exponent) if exponent < 700.0 else math.inf


def _upper_mean(values: Float64Array) -> Float64Array:
    """Mean of each column and three of its Monte Carlo errors."""
    return values.mean(axis=0) + RESOLUTION * values.std(axis=0, ddof=1) / math.sqrt(len(values))
