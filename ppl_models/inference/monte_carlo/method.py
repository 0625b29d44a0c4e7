"""What a method of estimating an expectation is, and what it reports."""

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from ppl_models.checks import Check
from ppl_models.inference.monte_carlo.integrand import Integrand
from ppl_models.inference.monte_carlo.sources import Source

Float64Array = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """An estimate as a method has it after some draws.

    Attributes:
        value: shape (*event) of the integrand.
        standard_error: of the estimate, the same shape; NaN where there are too few draws to tell.
        num_draws: evaluations of the integrand so far, those of pilots among them.
        ess: independent plain draws that would have the same standard error, shape (*event); inf where the error is 0
            though f varies, NaN where the variance of f under q is not known.
        degrees_of_freedom: of the standard error, for all of the event shape or for each; inf where there are many.
        checks: the estimate's own health.
        evidence: what else the method found, by name.
    """

    value: Float64Array
    standard_error: Float64Array
    num_draws: int
    ess: Float64Array
    degrees_of_freedom: float | Float64Array = float("inf")
    checks: tuple[Check, ...] = ()
    evidence: dict[str, Any] | None = None


class Run(Protocol):
    """One estimation that can go on."""

    def extend(self, num_draws: int) -> None:
        """Evaluate the integrand at about so many more draws; in chunks, in the caller's random state."""
        ...

    def estimate(self) -> Estimate:
        """The estimate from all draws so far."""
        ...


class Method(Protocol):
    """A way to estimate an expectation; a frozen dataclass whose fields are its options."""

    name: ClassVar[str]

    def start(self, integrand: Integrand, source: Source, seed: int) -> Run:
        """Begin a run.

        Args:
            integrand: the function, checked.
            source: what it is averaged over.
            seed: for engines with a generator of their own; torch's, NumPy's and Python's are seeded already.

        Raises:
            OptionError: the source lacks what the method needs; the message names a method that serves.
        """
        ...
