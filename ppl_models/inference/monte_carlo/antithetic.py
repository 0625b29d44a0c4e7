"""Antithetic draws: each draw beside its mirror image.

Hammersley and Morton (1956), A new Monte Carlo technique: antithetic variates, Mathematical Proceedings of the
Cambridge Philosophical Society 52(3). They help where f is monotone in the underlying normal numbers, and double the
variance where it is even.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from ppl_models.inference.monte_carlo.chunks import chunk_size, chunks
from ppl_models.inference.monte_carlo.integrand import Integrand
from ppl_models.inference.monte_carlo.method import Estimate
from ppl_models.inference.monte_carlo.moments import LEAST_VALUES, Moments
from ppl_models.inference.monte_carlo.sources import Source
from ppl_models.inference.monte_carlo.tails import Tails
from ppl_models.inference.monte_carlo.uniforms import needs_uniforms, ratio


@dataclass(frozen=True)
class Antithetic:
    """Draws from u and from 1 - u; the error from the means of the pairs, which are independent."""

    name: ClassVar[str] = "antithetic"

    def start(self, integrand: Integrand, source: Source, seed: int) -> "_AntitheticRun":
        """Begin a run.

        Raises:
            OptionError: the source's draws are no function of uniform numbers.
        """
        return _AntitheticRun(integrand, source, needs_uniforms(self.name, source))


class _AntitheticRun:
    def __init__(self, integrand: Integrand, source: Source, num_uniforms: int):
        self.integrand, self.source, self.num_uniforms = integrand, source, num_uniforms
        self.pairs, self.values, self.tails = Moments(), Moments(), Tails()

    def extend(self, num_draws: int) -> None:
        source = self.source
        for size in chunks(math.ceil(num_draws / 2), max(1, chunk_size(source) // 2)):
            normal = torch.randn(size, self.num_uniforms, dtype=source.dtype, device=source.device)
            values = self.integrand(source.from_normal(torch.cat([normal, -normal])))
            pairs = 0.5 * (values[:size] + values[size:])
            self.pairs.add(pairs)
            self.values.add(values)
            self.tails.add(values)

    def estimate(self) -> Estimate:
        pairs = self.pairs
        return Estimate(
            value=pairs.mean,
            standard_error=pairs.standard_error,
            num_draws=2 * pairs.count,
            ess=ratio(self.values.variance, np.square(pairs.standard_error)),
            degrees_of_freedom=pairs.count - 1,
            checks=(*self.tails.checks(), *pairs.checks("means of pairs", least=LEAST_VALUES // 2)),
        )
