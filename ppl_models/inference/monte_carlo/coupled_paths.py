"""Coupled Euler paths of a stochastic differential equation: samplers for multilevel Monte Carlo."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from ppl_models.errors import OptionError
from ppl_models.options import check_count, check_positive

Coefficient = Callable[[torch.Tensor, float], torch.Tensor]


@dataclass(frozen=True)
class CoupledEuler:
    """End points of Euler-Maruyama paths of dX = drift dt + diffusion dW, fine and coarse from the same noise.

    Level l takes `first_steps * 2**l` steps; its coarse path takes half of them, each with the sum of two increments of
    the fine one. The strong order is a half, so that the variance of the differences halves from level to level (beta =
    1); the weak order is one (alpha = 1). Called with a level and a number of draws, as
    `ppl.expect(f, sampler, method="multilevel")` calls it.

    Attributes:
        drift: of the state, shape (draw,), and the time, gives shape (draw,).
        diffusion: the same.
        initial: state at time 0.
        horizon: time at the end.
        first_steps: steps of level 0.
        dtype: of the states.
        device: where they stand.

    Kloeden and Platen (1992), Numerical solution of stochastic differential equations; Giles (2008), Multilevel Monte
    Carlo path simulation, Operations Research 56(3).
    """

    drift: Coefficient
    diffusion: Coefficient
    initial: float
    horizon: float
    first_steps: int = 1
    dtype: torch.dtype = torch.float64
    device: torch.device | str = "cpu"

    def __post_init__(self) -> None:
        check_positive("horizon", self.horizon)
        check_count("first_steps", self.first_steps)

    def __call__(self, level: int, num_draws: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """End points of the fine paths and of the coarse ones, shape (draw,) each; the latter None at level 0."""
        steps = self.first_steps * 2**level
        width = self.horizon / steps
        fine = torch.full((num_draws,), self.initial, dtype=self.dtype, device=self.device)
        coarse = fine if level else None
        pair = torch.zeros_like(fine)
        for step in range(steps):
            noise = math.sqrt(width) * torch.randn(num_draws, dtype=self.dtype, device=self.device)
            fine = self._moved(fine, step * width, width, noise)
            pair = pair + noise
            if coarse is not None and step % 2 == 1:
                coarse = self._moved(coarse, (step - 1) * width, 2.0 * width, pair)
                pair = torch.zeros_like(fine)
        return fine, coarse

    def _moved(self, state: torch.Tensor, time: float, width: float, noise: torch.Tensor) -> torch.Tensor:
        return state + self.drift(state, time) * width + self.diffusion(state, time) * noise


def geometric_brownian_motion(
    initial: float, drift: float, volatility: float, horizon: float, *, first_steps: int = 1
) -> CoupledEuler:
    """Coupled Euler paths of dS = drift S dt + volatility S dW, the price of Black and Scholes.

    Args:
        initial: price at time 0.
        drift: for each unit of time.
        volatility: for each root of a unit of time.
        horizon: time at the end.
        first_steps: steps of level 0.

    Raises:
        OptionError: an option is out of its range.
    """
    check_positive("initial", initial)
    if not math.isfinite(drift):
        raise OptionError(f"drift: found {drift!r}, wanted a finite number.")
    check_positive("volatility", volatility)
    return CoupledEuler(
        lambda price, time: drift * price, lambda price, time: volatility * price, initial, horizon, first_steps
    )
