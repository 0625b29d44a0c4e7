"""Coordinates in which an optimiser moves, other than the parameters of model and guide themselves."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ppl_models.errors import CaptureError


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
        watched: which of them come to rest as the optimisation does.
        constants: the tensors that `to_parameters` is made of.
    """

    start: torch.Tensor
    to_parameters: Callable[[torch.Tensor], torch.Tensor]
    watched: torch.Tensor
    constants: Sequence[torch.Tensor] = ()

    def gradient(self, flat: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
        """The gradient in these coordinates, from the gradient with respect to the parameters."""
        found: Any = torch.func.vjp(self.to_parameters, flat)
        return found[1](slope)[0]

    def take(self, other: "Coordinates") -> None:
        """Become another map of the same kind, in place: code that was compiled for this one serves it then.

        Raises:
            CaptureError: it is of another kind.
        """
        pairs = list(zip((self.start, *self.constants), (other.start, *other.constants), strict=False))
        if len(self.constants) != len(other.constants) or any(a.shape != b.shape for a, b in pairs):
            raise CaptureError("the coordinates found are of another kind")
        for own, value in pairs:
            own.copy_(value)
