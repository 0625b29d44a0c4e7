"""A program in other coordinates: an affine map stands before its flat unconstrained vector."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

import numpy as np
import torch

from ppl_models.program.program import Program


@dataclass(frozen=True)
class PlacedProgram(Program):
    """A program whose flat vector is z in x = mean + root z; densities leave the map's constant Jacobian out.

    Attributes:
        mean: shape (dim,).
        root: shape (dim, dim), or (dim,) for a diagonal one.
    """

    mean: torch.Tensor = field(default_factory=lambda: torch.zeros(0))
    root: torch.Tensor = field(default_factory=lambda: torch.zeros(0))

    def log_density_and_values(self, flat: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The log density, with the constrained latents and the deterministics at that point."""
        return super().log_density_and_values(self.original(flat))

    def original(self, flat: torch.Tensor) -> torch.Tensor:
        """The program's own unconstrained vector."""
        return self.mean + (self.root * flat if self.root.dim() == 1 else self.root @ flat)

    def unconstrain(self, values: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The flat vector, in these coordinates, of one draw of the constrained latents."""
        return self._placed(super().unconstrain(values))

    def prior_draw(self) -> torch.Tensor:
        """The vector of one draw of the prior, in these coordinates."""
        return self._placed(super().prior_draw())

    def placed(self, points: np.ndarray) -> np.ndarray:
        """Points of the program's own flat space, shape (point, dim), in these coordinates."""
        return torch.stack([self._placed(torch.as_tensor(p).to(self.mean)) for p in points]).double().cpu().numpy()

    def _placed(self, flat: torch.Tensor) -> torch.Tensor:
        away = flat - self.mean
        return away / self.root if self.root.dim() == 1 else torch.linalg.solve(self.root, away)


def placed(program: Program, mean: torch.Tensor, root: torch.Tensor) -> PlacedProgram:
    """A program in the coordinates z of x = mean + root z.

    Args:
        program: the program.
        mean: shape (dim,).
        root: shape (dim, dim), or (dim,) for a diagonal one.
    """
    own = {entry.name: getattr(program, entry.name) for entry in fields(Program)}
    return PlacedProgram(**own, mean=mean, root=root)
