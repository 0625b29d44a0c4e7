"""Coordinates in which an optimiser moves, other than the parameters of model and guide themselves."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import torch


def write_flat(flat: torch.Tensor, holders: Collection[torch.Tensor]) -> None:
    """Give tensors the values of one vector, one tensor after the other."""
    with torch.no_grad():
        for holder, piece in zip(holders, flat.split([holder.numel() for holder in holders]), strict=True):
            holder.copy_(piece.reshape(holder.shape))


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
