"""Control variates: what is known about other functions of the draws is taken off the error.

Nelson (1990), Control variate remedies, Operations Research 38(6). The coefficients of each fold of the draws are
fitted on the other folds, so that the estimate is unbiased.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri

from ppl_models.checks import Check
from ppl_models.errors import OptionError
from ppl_models.inference.monte_carlo.chunks import chunk_size, chunks
from ppl_models.inference.monte_carlo.controls import GivenControls, HermiteControls
from ppl_models.inference.monte_carlo.cross_fit import Folds
from ppl_models.inference.monte_carlo.integrand import Integrand
from ppl_models.inference.monte_carlo.method import Estimate
from ppl_models.inference.monte_carlo.moments import Moments
from ppl_models.inference.monte_carlo.sources import Source
from ppl_models.inference.monte_carlo.tails import Tails
from ppl_models.inference.monte_carlo.uniforms import needs_uniforms, ratio
from ppl_models.options import check_count

DRAWS_PER_CONTROL = 10
"""In each fold; automatic controls are never more, and given ones that are more leave a check open."""
FALSE_ALARMS = 1e-4
"""Of the check of given means, over all controls."""
ROUNDING = 1e-20
"""Share of the variance of f below which what the controls leave of it is rounding."""


@dataclass(frozen=True)
class ControlVariates:
    """The mean of f less a fitted combination of functions whose means are known.

    Attributes:
        controls: pairs of a function of the draws, giving (draw,) or (draw, control), and its exact mean, a number or
            shape (control,). Where there are none: the normal numbers behind the draws, their squares and their cross
            products, as many as the draws can bear.
        order: of the automatic controls: 1 for the numbers alone, 2 for squares and products as well.
        folds: parts of the draws whose coefficients are fitted on the others.
    """

    name: ClassVar[str] = "control_variates"
    controls: Sequence[tuple[Callable[[Any], Any], ArrayLike]] = ()
    order: int = 2
    folds: int = 4

    def __post_init__(self) -> None:
        check_count("folds", self.folds, least=2)
        if self.order not in (1, 2):
            raise OptionError(f"order: found {self.order!r}, wanted 1 or 2.")

    def start(self, integrand: Integrand, source: Source, seed: int) -> "_ControlledRun":
        """Begin a run.

        Raises:
            OptionError: no controls are given, and the source's draws are no function of uniform numbers; or the draws
                are not independent.
        """
        if not source.independent:
            raise OptionError(
                f"method {self.name!r}: draws of {source.label} depend on each other. Take method='mcmc'."
            )
        if self.controls:
            return _ControlledRun(self, integrand, source, GivenControls(self.controls))
        return _ControlledRun(self, integrand, source, HermiteControls(needs_uniforms(self.name, source), self.order))


class _ControlledRun:
    def __init__(
        self,
        method: ControlVariates,
        integrand: Integrand,
        source: Source,
        controls: GivenControls | HermiteControls,
    ):
        self.integrand, self.source, self.controls = integrand, source, controls
        self.folds = Folds(method.folds)
        self.num_folds = method.folds
        self.values, self.residuals, self.tails, self.known = Moments(), Moments(), Tails(), Moments()

    def extend(self, num_draws: int) -> None:
        if self.values.count == 0:
            if num_draws < 2 * self.num_folds:
                raise OptionError(f"num_draws: found {num_draws}, wanted at least {2 * self.num_folds}. Raise it.")
            if isinstance(self.controls, HermiteControls):
                self.controls = self.controls.at_most(num_draws // (DRAWS_PER_CONTROL * self.num_folds))
        for size in chunks(num_draws, max(2 * self.num_folds, chunk_size(self.source))):
            draws, controls = self.controls.draw(self.source, size)
            values = self.integrand(draws)
            self.folds.add(values, controls)
            self.values.add(values)
            self.known.add(controls)
            self.residuals.add(self.folds.residuals(values, controls))
            self.tails.add(values)

    def estimate(self) -> Estimate:
        value, error, explained = self.folds.estimate()
        shape = self.values.mean.shape
        return Estimate(
            value=value.reshape(shape),
            standard_error=error.reshape(shape),
            num_draws=self.values.count,
            ess=ratio(self.values.variance, np.square(error.reshape(shape))),
            degrees_of_freedom=max(1, self.values.count - 1 - self.folds.num_controls),
            checks=self._checks(),
            evidence={"controls": self.folds.num_controls, "explained": explained.reshape(shape)},
        )

    def _checks(self) -> tuple[Check, ...]:
        """Whether f has a variance, and whether the residuals, which carry the error, are many enough."""
        found = self.tails.checks()
        if (self.residuals.second > ROUNDING * self.values.second).any():
            found = (*found, *self.residuals.checks("residuals"))
        if isinstance(self.controls, GivenControls):
            found = (*found, self._check_means())
        controls, most = self.folds.num_controls, self.values.count / (DRAWS_PER_CONTROL * self.num_folds)
        if controls <= most:
            return found
        advice = "raise num_draws, or give fewer controls"
        detail = f"coefficients fitted on so few of {self.values.count:,} draws follow these draws"
        return (*found, Check("control variates", float(controls), most, None, advice, detail=detail))

    def _check_means(self) -> Check:
        """Whether the draws' means of the controls are the means that were given: a wrong one shifts the estimate."""
        with np.errstate(divide="ignore", invalid="ignore"):
            apart = np.abs(self.known.mean) / self.known.standard_error
        apart = np.atleast_1d(np.where(self.known.mean == 0.0, 0.0, apart))
        limit = float(ndtri(1.0 - 0.5 * FALSE_ALARMS / apart.size))
        worst = int(np.nan_to_num(apart, nan=np.inf).argmax())
        passed = bool(apart[worst] <= limit)
        detail = f"control {worst}: the draws' mean less the mean given, in standard errors"
        advice = "" if passed else "give the exact mean of that control under q"
        return Check("means of the controls", float(apart[worst]), limit, passed, advice, detail=detail)
