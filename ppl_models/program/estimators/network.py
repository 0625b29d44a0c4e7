"""A network with one hidden layer and one output, as plain tensors."""

import math

import torch

from ppl_models.program.estimators.auxiliary import Auxiliary


def first_weights(width: int, num_hidden: int, like: torch.Tensor) -> dict[str, torch.Tensor]:
    """The tensors of a network that is zero everywhere, by name.

    Args:
        width: length of an input.
        num_hidden: units of the hidden layer.
        like: a tensor of the dtype and on the device wanted.
    """
    into = torch.randn(width, num_hidden, dtype=like.dtype, device=like.device) / math.sqrt(max(width, 1))
    return {"into": into, "hidden": like.new_zeros(num_hidden), "out": like.new_zeros(num_hidden)}


def hidden_units(weights: Auxiliary, inputs: torch.Tensor) -> torch.Tensor:
    """The hidden layer at inputs of shape (..., width), shape (..., hidden)."""
    return torch.tanh(inputs @ weights["into"] + weights["hidden"])


def network(weights: Auxiliary, inputs: torch.Tensor) -> torch.Tensor:
    """Its output at inputs of shape (..., width), without their last axis."""
    return hidden_units(weights, inputs) @ weights["out"]
