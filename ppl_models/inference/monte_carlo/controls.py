"""Functions of draws whose means are known."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from ppl_models.errors import OptionError
from ppl_models.inference.monte_carlo.integrand import Integrand
from ppl_models.inference.monte_carlo.sources import Draws, Source


@dataclass(frozen=True)
class HermiteControls:
    """z, (z² - 1) / √2 and products of two of the standard normal numbers z behind the draws; all of mean 0.

    Attributes:
        num_uniforms: numbers that make a draw.
        order: 1 for z alone.
        crossed: whether products are among them.
    """

    num_uniforms: int
    order: int
    crossed: bool = True

    @property
    def count(self) -> int:
        """How many controls there are."""
        dims = self.num_uniforms
        return dims * self.order + (dims * (dims - 1) // 2 if self.crossed and self.order == 2 else 0)

    def at_most(self, most: int) -> "HermiteControls":
        """These, or fewer: without products, then without squares.

        Raises:
            OptionError: even the numbers themselves are more than `most`.
        """
        options = [self, HermiteControls(self.num_uniforms, self.order, False), HermiteControls(self.num_uniforms, 1)]
        for option in options:
            if option.count <= most:
                return option
        raise OptionError(
            f"num_draws: too few to fit coefficients for {self.num_uniforms:,} control variates. Raise it, give fewer "
            "controls, or take method='plain'."
        )

    def draw(self, source: Source, num_draws: int) -> tuple[Draws, torch.Tensor]:
        """Draws and their controls, float64, shape (draw, control)."""
        normal = torch.randn(num_draws, self.num_uniforms, dtype=source.dtype, device=source.device)
        draws, wide = source.from_normal(normal), normal.double()
        columns = [wide]
        if self.order == 2:
            columns.append((wide * wide - 1.0) * 0.5**0.5)
            if self.crossed and self.num_uniforms > 1:
                first, second = torch.triu_indices(self.num_uniforms, self.num_uniforms, 1, device=wide.device)
                columns.append(wide[:, first] * wide[:, second])
        return draws, torch.cat(columns, 1)


class GivenControls:
    """Functions and their means, as the user gives them.

    Args:
        controls: pairs of a function of draws, giving (draw,) or (draw, control), and its exact mean.

    Raises:
        OptionError: they are no such pairs.
    """

    def __init__(self, controls: Sequence[tuple[Callable[[Any], Any], ArrayLike]]):
        self.functions: list[Integrand] = []
        self.means: list[torch.Tensor] = []
        for pair in controls:
            try:
                function, mean = pair
                known = np.atleast_1d(np.asarray(mean, dtype=float))
                if not callable(function) or known.ndim != 1 or not np.isfinite(known).all():
                    raise ValueError
            except (TypeError, ValueError):
                raise OptionError(
                    f"controls: found {pair!r}, wanted pairs (function of draws, its exact mean), such as "
                    "[(lambda z: z**2, 1.0)]."
                ) from None
            self.functions.append(Integrand(function))
            self.means.append(torch.as_tensor(known))

    def draw(self, source: Source, num_draws: int) -> tuple[Draws, torch.Tensor]:
        """Draws and their controls less their means, float64, shape (draw, control).

        Raises:
            OptionError: a function has another number of values than its mean.
        """
        draws = source.draw(num_draws)
        columns = []
        for function, mean in zip(self.functions, self.means, strict=True):
            values = function(draws).double().reshape(num_draws, -1)
            if values.shape[1] != len(mean):
                raise OptionError(
                    f"controls: a function has {values.shape[1]} values at a draw, its mean {len(mean)}. Give a mean "
                    "of each."
                )
            columns.append(values - mean.to(values.device))
        return draws, torch.cat(columns, 1)
