"""Adam and its kin as pure functions of flat vectors, with everything that changes from step to step as an input."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

State = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Parameters, and the running averages of the gradient and of its square; each of shape (num_parameters,)."""


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba 2015), and Pyro's ClippedAdam.

    Attributes:
        step_size: first step size.
        betas: decay of the averages of the gradient and of its square.
        epsilon: added to the root of the average square.
        weight_decay: added to the gradient, times the parameters.
        decay: factor of the step size at every step; applied before the step, as ClippedAdam does.
        clip_gradient: bound of each element of the gradient; None leaves it.
        clip_norm: bound of the gradient's norm, parameter by parameter as Pyro has it; None leaves it.
        epsilon_inside: whether epsilon is added before the correction of the average square (ClippedAdam).
        rates: step size at each step over the first one, where a schedule of the user's decides: takes the number of
            steps made before and the number of steps wanted.
    """

    step_size: float
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    decay: float = 1.0
    clip_gradient: float | None = None
    clip_norm: float | None = None
    epsilon_inside: bool = False
    rates: Callable[[int, int], np.ndarray] | None = None

    def start(self, flat: torch.Tensor) -> State:
        """The state before the first step."""
        return flat.clone(), torch.zeros_like(flat), torch.zeros_like(flat)

    def schedule(self, first: int, factors: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
        """What each step needs to know: its rate and the two corrections, shape (step, 3).

        Args:
            first: number of steps made before.
            factors: step size at each step over the first one, shape (step,).
            dtype: dtype of the parameters.
        """
        if self.rates is not None:
            factors = self.rates(first, len(factors))
        steps = np.arange(first + 1, first + len(factors) + 1)
        rates = self.step_size * factors * self.decay**steps
        unbiased = 1.0 - self.betas[0] ** steps
        root = np.sqrt(1.0 - self.betas[1] ** steps)
        if self.epsilon_inside:
            columns = (rates * root / unbiased, np.ones_like(root))
        else:
            columns = (rates / unbiased, 1.0 / root)
        return torch.as_tensor(np.stack(columns, axis=1), dtype=dtype)

    def update(
        self,
        state: State,
        gradient: torch.Tensor,
        schedule: torch.Tensor,
        pieces: Sequence[slice],
        units: torch.Tensor | None = None,
    ) -> State:
        """One step.

        Args:
            state: before the step.
            gradient: of the loss, shape (num_parameters,).
            schedule: this step's row of `schedule`.
            pieces: where each parameter stands in the vector.
            units: factor of each parameter's step; None for one.
        """
        flat, first, second = state
        if self.clip_norm is not None:
            parts = [gradient[piece] for piece in pieces]
            gradient = torch.cat([part * _norm_factor(part, self.clip_norm) for part in parts])
        if self.clip_gradient is not None:
            gradient = gradient.clamp(-self.clip_gradient, self.clip_gradient)
        if self.weight_decay:
            gradient = gradient + self.weight_decay * flat
        first = self.betas[0] * first + (1.0 - self.betas[0]) * gradient
        second = self.betas[1] * second + (1.0 - self.betas[1]) * gradient * gradient
        denominator = second.sqrt() * schedule[1] + self.epsilon
        step = schedule[0] * first / denominator
        return flat - (step if units is None else units * step), first, second


def _norm_factor(part: torch.Tensor, bound: float) -> torch.Tensor:
    # As torch.nn.utils.clip_grad_norm_.
    return (bound / (part.square().sum().sqrt() + 1e-6)).clamp(max=1.0)
