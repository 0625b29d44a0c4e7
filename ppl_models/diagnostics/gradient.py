"""Whether the gradient of the ELBO is zero at the parameters that a fit returns."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import solve
from scipy.stats import chi2, norm

from ppl_models.checks import Check
from ppl_models.diagnostics.iterates import parameter_names, units, unmeasured
from ppl_models.diagnostics.moments import RESOLUTION
from ppl_models.diagnostics.optimisation import ABSOLUTE_LIMIT, MIN_STEPS
from ppl_models.errors import DataError

DRAWS_PER_PARAMETER = 4.0
RIDGE = 1e-6

Float64Array = NDArray[np.float64]


def check_gradient(
    gradients: ArrayLike, labels: Sequence[str] | None = None, *, scale: ArrayLike | None = None
) -> Check:
    """Whether the ELBO's gradient is zero at the parameters returned, in nats that a Newton step would gain.

    A quadratic ELBO with curvature H has 0.5 g' H^-1 g nats to gain where its gradient is g. With `scale` s, H is
    diag(1 / s^2): exact for a mean-field guide at its optimum, where s is the sd of a mean and 1 / sqrt(2) for a log
    sd. Without, H is the covariance of a single draw's gradient, which is exact where a normal guide with
    reparametrised draws fits its target (E[score score'] = -E[Hessian]). Near it the gain is of the right order, and
    rather too large: a mean that is off by d sds correlates its gradient with that of its sd, and d^2 / 2 becomes
    d^2 / 2 (1 + d^2 / 2). Gradients that leave out the score of the guide (sticking the landing) have too small a
    covariance and need `scale`.
    The covariance and not the second moment, which grows with g and would bound the gain by half a nat.

    Args:
        gradients: one-draw estimates of the gradient of the ELBO in nats per unit of each parameter, independent,
            shape (draw, parameter); at least 100. Fewer than four draws per parameter leave only the diagonal of H.
        labels: one per parameter; None for their positions.
        scale: shape (parameter,), in the units of the parameters; None for the gradients' own covariance.

    Returns:
        The check `gradient`, whose value is the gain in nats without what the gradient's noise adds; its limit is 0.1.
        It fails beyond the limit and what a gradient of zero gives by chance (0.13 %), passes if it is within the
        limit with two of its standard errors added, and more draws would settle the rest.

    Raises:
        DataError: wrong shapes.
    """
    values = np.asarray(gradients, dtype=float)
    if values.ndim != 2:
        raise DataError(f"gradients: shape {values.shape}, needs (draw, parameter). One row per draw of the guide.")
    names = parameter_names(labels, values.shape[1])
    if not np.isfinite(values).all():
        return unmeasured("gradient", ABSOLUTE_LIMIT, "NaN or infinite gradients")
    used = np.flatnonzero((values != 0.0).any(axis=0))
    if len(values) < MIN_STEPS or not used.size:
        few = len(values) < MIN_STEPS
        why = f"{len(values)} draws, needs {MIN_STEPS}" if few else "no gradient is other than zero"
        return unmeasured("gradient", ABSOLUTE_LIMIT, why)
    noisy = _Gradients.of(values[:, used], None if scale is None else units(scale, values.shape[1])[used])
    if noisy is None:
        return unmeasured("gradient", ABSOLUTE_LIMIT, "gradients without noise have no scale of their own; give one")
    number, square = len(values), float(noisy.shares.sum())
    gain = 0.5 * (square - noisy.trace / number)
    error = math.sqrt(0.5 * noisy.square / number**2 + noisy.along / number)
    chance = noisy.chance(number)
    passed = False if gain > max(ABSOLUTE_LIMIT, chance) else True if gain + 2.0 * error <= ABSOLUTE_LIMIT else None
    worst = names[used[int(noisy.shares.argmax())]]
    detail = f"nats that a Newton step would gain, most in {worst}; {number:,} gradients of {len(used)} parameters"
    if gain <= chance:
        detail += "; none beyond the gradients' noise"
    advice = {True: "", False: "raise max_steps, or lower step_size", None: "more gradients"}[passed]
    return Check("gradient", gain, ABSOLUTE_LIMIT, passed, advice, error, detail)


@dataclass(frozen=True)
class _Gradients:
    """The mean gradient g and the covariance V of one gradient, both in coordinates where the curvature H is one.

    Attributes:
        shares: what each parameter adds to g' g, shape (parameter,).
        trace: of V.
        square: sum of the squares of all elements of V.
        along: g' V g.
    """

    shares: Float64Array
    trace: float
    square: float
    along: float

    @classmethod
    def of(cls, values: Float64Array, scale: Float64Array | None) -> "_Gradients | None":
        """None where a gradient without noise gives no scale."""
        number, size = values.shape
        mean, sd = values.mean(axis=0), values.std(axis=0, ddof=1)
        if scale is None and not (sd > 0.0).all():
            return None
        if scale is None and number >= DRAWS_PER_PARAMETER * size:
            within = np.corrcoef(values, rowvar=False).reshape(size, size) + RIDGE * np.eye(size)
            # the inverse of a covariance from n draws is too large by (n - 1) / (n - p - 2): Hotelling
            shares = mean / sd * solve(within, mean / sd, assume_a="pos") * (number - size - 2) / (number - 1)
            return cls(shares, float(size), float(size), max(float(shares.sum()), 0.0))
        factor = 1.0 / sd if scale is None else scale
        noise, scaled = (values - mean) * factor, mean * factor
        gram = noise @ noise.T if size > number else noise.T @ noise
        freedom = number - 1
        along = float(((noise @ scaled) ** 2).sum()) / freedom
        return cls(scaled**2, float(np.trace(gram)) / freedom, float((gram**2).sum()) / freedom**2, along)

    def chance(self, number: int) -> float:
        """Gain that gradients of mean zero exceed with a probability of 0.13 %: chi-squared, its freedom matched."""
        if self.square == 0.0:
            return 0.0
        freedom = self.trace**2 / self.square
        return 0.5 * self.trace / number * (float(chi2.isf(norm.sf(RESOLUTION), freedom)) / freedom - 1.0)
