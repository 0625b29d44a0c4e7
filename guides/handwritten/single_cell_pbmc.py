"""Guide of the single-cell VAE: a network of the logarithms of a cell's counts, relative to its library.

The library says nothing of a cell's type, so the network sees counts per transcript read, in the logarithms that even
out counts of very different sizes (Lopez et al. 2018, Deep generative modeling for single-cell transcriptomics).
"""

import math

import pyro
import pyro.distributions as dist
import torch

from guides.errors import MissingDataError

NUM_LATENTS = 8
NUM_HIDDEN = 64
PER = 500.0
"""Counts are seen as if every cell had so many in all, about the median of these cells."""


def guide(x: torch.Tensor | None = None, num_rows: int | None = None) -> None:
    """q(z_n | x_n) = Normal(m(x_n), diag(s(x_n)²)), m and log s linear in the softplus of a linear layer.

    Args:
        x: Counts of transcripts, shape (cell, gene).
        num_rows: How many cells the model would draw without x; not used.

    Raises:
        MissingDataError: If x is None.
    """
    if x is None:
        raise MissingDataError("single_cell_pbmc", "x")
    inputs = torch.log1p(PER * x / x.sum(-1, keepdim=True).clamp_min(1.0))
    hidden = torch.nn.functional.softplus(_linear("hidden", inputs, NUM_HIDDEN))
    mean = _linear("mean", hidden, NUM_LATENTS)
    log_scale = _linear("log_scale", hidden, NUM_LATENTS)
    with pyro.plate("datum", len(x)):
        pyro.sample("z", dist.Normal(mean, log_scale.exp()).to_event(1))


def _linear(name: str, inputs: torch.Tensor, num_outputs: int) -> torch.Tensor:
    """A layer whose weights begin at random, small enough that the first scales are about one."""
    num_inputs = inputs.shape[-1]
    weights = pyro.param(f"{name}_weights", lambda: 0.3 * torch.randn(num_outputs, num_inputs) / math.sqrt(num_inputs))
    offset = pyro.param(f"{name}_offset", lambda: torch.zeros(num_outputs))
    return inputs.to(weights) @ weights.T + offset
