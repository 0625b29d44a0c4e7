"""The encoder of an amortised guide: the one that is made where none is given, and its output, checked."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from guides.errors import FamilyOptionError
from guides.networks import MLP


def default_encoder(num_inputs: int, hidden: Sequence[int]) -> nn.Module:
    """A multilayer perceptron on flat rows, an activation behind every layer; without layers the rows themselves."""
    layers: list[nn.Module] = [nn.Flatten(1)]
    if hidden:
        layers += [MLP(num_inputs, hidden[-1], hidden[:-1]), nn.ReLU()]
    return nn.Sequential(*layers)


def encoded(encoder: nn.Module | None, inputs: torch.Tensor) -> torch.Tensor:
    """The features of each row, shape (row, feature), in the dtype of the encoder's parameters.

    Raises:
        FamilyOptionError: the encoder returns another shape.
    """
    assert encoder is not None
    own = inputs.dtype if inputs.is_floating_point() else torch.get_default_dtype()
    dtype = next((p.dtype for p in encoder.parameters() if p.is_floating_point()), own)
    features: Any = encoder(inputs.to(dtype))
    if not isinstance(features, torch.Tensor) or features.dim() != 2 or len(features) != len(inputs):
        shape = tuple(features.shape) if isinstance(features, torch.Tensor) else type(features).__name__
        raise FamilyOptionError(
            f"amortized: the encoder made {shape} of inputs of shape {tuple(inputs.shape)}, wanted ({len(inputs)}, "
            "number of features). End it with nn.Flatten(1), or choose what it sees (inputs=...)."
        )
    return features


def first_encoded(encoder: nn.Module | None, inputs: torch.Tensor) -> torch.Tensor:
    """The same without gradients, where a failure of the encoder itself is told as a mistake in its layers or inputs.

    Raises:
        FamilyOptionError: the encoder fails, or returns another shape.
    """
    try:
        with torch.no_grad():
            return encoded(encoder, inputs)
    except FamilyOptionError:
        raise
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else ""
        raise FamilyOptionError(
            f"amortized: the encoder failed on inputs of shape {tuple(inputs.shape)}: {type(error).__name__}: {reason}."
            " Choose what it sees (inputs=...), or give it layers of that size."
        ) from error
