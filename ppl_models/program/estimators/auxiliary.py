"""What an estimator learns beside the guide: baselines, temperatures, control variates."""

from collections.abc import Callable, Mapping

import torch

from ppl_models.program.batching import map_draws

BETAS = (0.9, 0.99)
FIRST_DRAWS = 16


class Auxiliary:
    """Tensors with gradients of their own, and steps of their own.

    An estimator adds the loss of its tensors to what it differentiates, cut from the graph of the guide's parameters:
    neither gradient sees the other. A step uses what earlier draws left behind, so that the draws of the next one are
    independent of it, and no estimate is biased by it.

    Args:
        learnt: moved by Adam.
        running: means over past steps: a tensor b with the loss (b - mean)^2 / 2 has the gradient b - mean.
        step_size: of Adam.
        decay: weight of the past in a running mean, once there is enough of it.
        fixed: what does not move.
        first: values of the signal at a few draws, whose mean and sd are the zero and the unit that it is learnt in.
    """

    def __init__(
        self,
        learnt: Mapping[str, torch.Tensor],
        running: Mapping[str, torch.Tensor] | None = None,
        *,
        step_size: float = 0.01,
        decay: float = 0.9,
        fixed: Mapping[str, torch.Tensor] | None = None,
        first: torch.Tensor,
    ):
        spread = first.std() if first.numel() > 1 else torch.zeros_like(first).sum()
        usable = bool(torch.isfinite(spread)) and float(spread) > 0.0
        self.middle = first.mean().nan_to_num(0.0, 0.0, 0.0)
        self.spread = spread if usable else torch.ones_like(self.middle)
        self.learnt = {name: value.detach().clone().requires_grad_() for name, value in learnt.items()}
        self.running: dict[str, torch.Tensor] = {}
        self.track(running or {})
        self.fixed = dict(fixed or {})
        self.decay, self.num_steps = decay, 0
        self.optimizer = torch.optim.Adam(self.learnt.values(), lr=step_size, betas=BETAS) if self.learnt else None

    def __getitem__(self, name: str) -> torch.Tensor:
        return {**self.learnt, **self.running, **self.fixed}[name]

    @property
    def tensors(self) -> list[torch.Tensor]:
        """Those that move."""
        return [*self.learnt.values(), *self.running.values()]

    def track(self, running: Mapping[str, torch.Tensor]) -> None:
        """Add means over past steps."""
        self.running |= {name: value.detach().clone().requires_grad_() for name, value in running.items()}

    def scaled(self, value: torch.Tensor) -> torch.Tensor:
        """A signal in the units of the first draws."""
        return (value - self.middle) / self.spread

    def step(self) -> None:
        """Move by the gradients that a backward pass left, if they are finite, and take them away."""
        found = [tensor.grad for tensor in self.tensors if tensor.grad is not None]
        if found and all(bool(torch.isfinite(gradient).all()) for gradient in found):
            self.num_steps += 1
            if self.optimizer is not None:
                self.optimizer.step()
            rate = max(1.0 - self.decay, 1.0 / self.num_steps)
            with torch.no_grad():
                for tensor in self.running.values():
                    if tensor.grad is not None:
                        tensor -= rate * tensor.grad
        for tensor in self.tensors:
            tensor.grad = None


def first_terms(particle: Callable[[], dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """An estimator's terms at a few draws, each of shape (draw, ...), without a graph."""
    with torch.no_grad():
        return map_draws(particle, FIRST_DRAWS)
