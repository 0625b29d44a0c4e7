"""Plain Monte Carlo: the mean of f at independent draws."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ppl_models.errors import OptionError
from ppl_models.inference.monte_carlo.chunks import chunk_size, chunks
from ppl_models.inference.monte_carlo.integrand import Integrand
from ppl_models.inference.monte_carlo.method import Estimate
from ppl_models.inference.monte_carlo.moments import Moments
from ppl_models.inference.monte_carlo.sources import Source
from ppl_models.inference.monte_carlo.tails import Tails


@dataclass(frozen=True)
class Plain:
    """The mean at independent draws; its error from their variance."""

    name: ClassVar[str] = "plain"

    def start(self, integrand: Integrand, source: Source, seed: int) -> "_PlainRun":
        """Begin a run.

        Raises:
            OptionError: the draws are not independent.
        """
        if not source.independent:
            raise OptionError(f"method 'plain': draws of {source.label} depend on each other. Take method='mcmc'.")
        return _PlainRun(integrand, source)


class _PlainRun:
    def __init__(self, integrand: Integrand, source: Source):
        self.integrand, self.source = integrand, source
        self.moments, self.tails = Moments(), Tails()

    def extend(self, num_draws: int) -> None:
        for size in chunks(num_draws, chunk_size(self.source)):
            values = self.integrand(self.source.draw(size))
            self.moments.add(values)
            self.tails.add(values)

    def estimate(self) -> Estimate:
        moments = self.moments
        return Estimate(
            value=moments.mean,
            standard_error=moments.standard_error,
            num_draws=moments.count,
            ess=np.full(moments.mean.shape, float(moments.count)),
            degrees_of_freedom=moments.count - 1,
            checks=(*self.tails.checks(), *moments.checks()),
        )
