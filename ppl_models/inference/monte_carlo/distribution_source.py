"""Draws from a torch or Pyro distribution."""

from typing import Any

import torch
from torch.distributions import Distribution, Normal

from ppl_models.errors import DataError, OptionError, first_line
from ppl_models.inference.monte_carlo.base_numbers import base_of
from ppl_models.inference.monte_carlo.sources import Draws, DrawsAlone
from ppl_models.program.isolation import forked_random


class DistributionSource(DrawsAlone):
    """A torch or Pyro distribution; batches are independent parts of one draw, of shape (*batch, *event).

    Args:
        distribution: it.

    Attributes:
        distribution: the same.
        num_uniforms: numbers behind one draw; None where draws are no known function of such.
        size_hint: numbers that one draw holds.
        label: the distribution's name.
        device: of the draws.
        dtype: of the normal numbers that `from_normal` wants.

    Raises:
        DataError: nothing can be drawn from it.
    """

    def __init__(self, distribution: Distribution):
        self.distribution = distribution
        self.label = type(distribution).__name__
        try:
            with torch.no_grad(), forked_random():
                draw = distribution.sample()
        except Exception as error:
            raise DataError(
                f"q: {self.label} cannot be drawn from ({first_line(error)}). Give a distribution with `sample`."
            ) from error
        if not isinstance(draw, torch.Tensor):
            raise DataError(
                f"q: draws of {self.label} are {type(draw).__name__}, wanted tensors. Give a distribution of one."
            )
        self.device, self.size_hint, self._kind = draw.device, max(1, draw.numel()), draw.dtype
        self._base = base_of(distribution)
        self.num_uniforms = None if self._base is None else self._base.num_numbers
        # normal numbers on their way through a cdf lose their upper tail in single precision
        direct = self._base is not None and self._base.normal and draw.is_floating_point()
        self.dtype = draw.dtype if direct else torch.float64
        # torch scales and shifts normal numbers in two more passes than it takes
        self._plain_normal = type(distribution).sample is Normal.sample and direct

    def draw(self, num_draws: int) -> Draws:
        """Independent draws."""
        if self._plain_normal:
            return self.from_normal(torch.randn(num_draws, self.size_hint, dtype=self.dtype, device=self.device))
        return self.distribution.sample(torch.Size((num_draws,)))

    def from_uniform(self, uniform: torch.Tensor) -> Draws:
        """Draws as a function of numbers strictly between 0 and 1, float64, shape (draw, num_uniforms)."""
        if self._base is None:
            return super().from_uniform(uniform)
        with torch.no_grad():
            return self._base.function(torch.special.ndtri(uniform) if self._base.normal else uniform).to(self._kind)

    def from_normal(self, normal: torch.Tensor) -> Draws:
        """Draws as the same function of standard normal numbers."""
        if self._base is None:
            return super().from_normal(normal)
        if not self._base.normal:
            normal = torch.special.ndtr(normal.double()).clamp_(2.0**-1000, 1.0 - 2.0**-53)
        with torch.no_grad():
            return self._base.function(normal).to(self._kind)

    def log_prob(self, draws: Any) -> torch.Tensor:
        """Log density in nats at draws, shape (draw,): that of all parts of a batch together.

        Raises:
            OptionError: the distribution has no density.
        """
        try:
            with torch.no_grad():
                found = self.distribution.log_prob(draws)
        except NotImplementedError:
            raise OptionError(f"q: {self.label} has no density. Give one that has.") from None
        return found.reshape(len(found), -1).sum(1) if found.ndim > 1 else found
