"""A fitted automatic guide as a distribution over the program's flat unconstrained vector."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from pyro.infer.autoguide import AutoContinuous

from guides.dais import AutoAnnealed
from ppl_models.inference.fit_result import Fit
from ppl_models.program import Parameters, Program, isolated
from ppl_models.seeds import child_seed

MOST_AT_ONCE = 20_000


@dataclass(frozen=True)
class FlatGuide:
    """Draws from a fit's guide and its density, unconstrained.

    Only guides of all latents in one vector (`AutoContinuous`: normals, mixtures, flows) have such a density at given
    points; `of` gives None for others, and for annealed guides, whose density is over their momenta too.

    Attributes:
        fit: the fit.
    """

    fit: Fit

    @classmethod
    def of(cls, fit: Fit) -> "FlatGuide | None":
        """The fit's guide as such a distribution; None where its family is another kind."""
        if fit.point or not isinstance(fit.guide, AutoContinuous) or isinstance(fit.guide, AutoAnnealed):
            return None
        if set(fit.guide._unconstrained_shapes) != set(fit.program.slices):
            return None
        return cls(fit)

    @property
    def program(self) -> Program:
        """The model with its data and learnt parameters."""
        return self.fit.program

    def draw(self, num_draws: int, seed: int) -> np.ndarray:
        """Draws, shape (draw, dim)."""
        with self._world(child_seed(seed, "flat")), torch.no_grad():
            drawn = self._posterior().sample((num_draws,))
        return drawn[:, self._places].double().cpu().numpy()

    def log_prob(self, points: np.ndarray) -> np.ndarray:
        """Log density in nats with respect to the unconstrained space at points (point, dim), shape (point,)."""
        tensor = torch.as_tensor(points, dtype=self.program.dtype, device=self.program.device)
        own = tensor[:, torch.argsort(self._places)]
        with self._world(0), torch.no_grad():
            posterior = self._posterior()
            found = [posterior.log_prob(part) for part in own.split(MOST_AT_ONCE)]
        return torch.cat(found).double().cpu().numpy()

    @cached_property
    def _places(self) -> torch.Tensor:
        """Where each latent of the flat vector stands in the guide's own."""
        guide: Any = self.fit.guide
        start, found = 0, {}
        for name, shape in guide._unconstrained_shapes.items():
            found[name] = torch.arange(start, start + shape.numel())
            start += shape.numel()
        return torch.cat([found[name] for name in self.program.slices])

    def _posterior(self) -> Any:
        guide: Any = self.fit.guide
        return guide.get_posterior(*self.program.arguments.args, **self.program.arguments.kwargs)

    def _world(self, seed: int) -> Any:
        parameters: Parameters = self.program.parameters
        return isolated(
            seed=seed, dtype=self.program.dtype, parameters=parameters, full_data=True, device=self.program.device
        )
