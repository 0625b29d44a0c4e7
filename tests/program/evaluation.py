"""Evaluate programs as the library does: in a private Pyro world."""

import torch

from ppl_models.program import Program


def value_and_gradient(program: Program, flat) -> tuple[float, torch.Tensor]:
    """Log density in nats at an unconstrained vector, and its gradient by autograd."""
    leaf = torch.as_tensor(flat, dtype=program.dtype).clone().requires_grad_(True)
    with program.isolated():
        value = program.log_density(leaf)
        (gradient,) = torch.autograd.grad(value, leaf)
    return float(value.detach()), gradient


def points(program: Program, count: int = 5, seed: int = 0) -> torch.Tensor:
    """Unconstrained vectors of shape (count, dim)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, program.num_dims, dtype=program.dtype, generator=generator)
