"""Coordinates in which an optimiser moves, other than the parameters of model and guide themselves."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Coordinates:
    """A smooth map from a flat vector, in which steps of one size suit every direction, to the parameters.

    Attributes:
        start: where an optimisation begins, shape (num_coordinates,).
        to_parameters: takes such a vector; returns all unconstrained parameters in the order of the param store, shape
            (num_parameters,). A pure function of its argument, differentiable.
    """

    start: torch.Tensor
    to_parameters: Callable[[torch.Tensor], torch.Tensor]
    watched: torch.Tensor

    def gradient(self, flat: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
        """The gradient in these coordinates, from the gradient with respect to the parameters."""
        found: Any = torch.func.vjp(self.to_parameters, flat)
        return found[1](slope)[0]
