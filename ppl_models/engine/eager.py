"""The eager backend: Pyro runs the model at every call. It is the oracle that others are compared with."""

import torch

from ppl_models.engine.protocol import GradientFunction
from ppl_models.program import Program


class Eager:
    """Runs the model itself, with autograd."""

    name = "eager"

    def available(self) -> str | None:
        """Always available."""
        return None

    def compile(self, program: Program) -> GradientFunction:
        """The model's own log density with autograd's gradient; nothing is compiled."""

        def gradient(flat: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            leaf = flat.detach().clone().requires_grad_(True)
            with torch.enable_grad():
                value = program.log_density(leaf)
                (slope,) = torch.autograd.grad(value, leaf)
            return value.detach(), slope

        return gradient
