"""A fitted guide that draws each latent at a site of its own, as a distribution over the flat unconstrained vector."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyro.poutine as poutine
import torch
from pyro.distributions import Delta
from pyro.poutine.trace_struct import Trace
from pyro.poutine.util import site_is_subsample

from ppl_models.inference.draws import latent_draws, unconstrained
from ppl_models.inference.fit_result import Fit
from ppl_models.program import Program, map_draws
from ppl_models.program.handlers import FromUnconstrained, FromValues
from ppl_models.program.nodes import nodes_of
from ppl_models.program.sites import Site
from ppl_models.seeds import child_seed

UNCONSTRAINED = "_unconstrained"
"""What automatic mean-field guides append to a latent's name for the site at which they draw it."""
NUM_PROOFS = 3
AGREES = {torch.float64: 1e-8, torch.float32: 1e-3}


@dataclass(frozen=True)
class SitewiseGuide:
    """Draws from a fit's guide and its density, unconstrained.

    For guides that draw each latent at the site of its name, as hand-written ones do, or at an auxiliary site of the
    unconstrained value, as mean-field autoguides do. Its density at given points is that of a run of the guide with
    the values put in; that this is the guide's own density is proven on draws of its own.

    Attributes:
        fit: the fit.
    """

    fit: Fit

    @classmethod
    def of(cls, fit: Fit) -> "SitewiseGuide | None":
        """The fit's guide as such a distribution; None where it draws its latents otherwise, or has discrete ones."""
        if not fit.has_density or fit.program.sites.discrete or fit.program.batched:
            return None
        guide = cls(fit)
        return guide if guide._has_sites() and guide._proven() else None

    @property
    def program(self) -> Program:
        """The model with its data and learnt parameters."""
        return self.fit.program

    def draw(self, num_draws: int, seed: int) -> np.ndarray:
        """Draws, shape (draw, dim)."""
        with self.program.isolated(seed=child_seed(seed, "flat")):
            values, _ = latent_draws(self.program, self.fit.guide, num_draws)
            return unconstrained(self.program, values)

    def log_prob(self, points: np.ndarray) -> np.ndarray:
        """Log density in nats with respect to the unconstrained space at points (point, dim), shape (point,)."""
        tensor = torch.as_tensor(points, dtype=self.program.dtype, device=self.program.device)
        with self.program.isolated(seed=0), torch.no_grad():
            found: Any = map_draws(self._log_prob, len(tensor), tensor, size_hint=self.program.size_hint)
        return found.double().cpu().numpy()

    def _log_prob(self, point: torch.Tensor) -> torch.Tensor:
        handler = FromUnconstrained(point, self.program.slices)
        arguments = self.program.arguments
        with handler:
            model_trace = poutine.trace(self.program.model).get_trace(*arguments.args, **arguments.kwargs)
        constrained = {site.name: nodes_of(model_trace)[site.name]["value"] for site in self.program.sites.latent}
        given = {
            **constrained,
            **{name + UNCONSTRAINED: point[where].reshape(shape) for name, (where, shape) in self._slices.items()},
        }
        with FromValues(given, skip_delta=True):
            trace = self._run()
        # without validation a density may say anything of what it cannot draw
        inside = [
            node["fn"].support.check(node["value"]).all()
            for node in nodes_of(trace).values()
            if node["type"] == "sample" and not site_is_subsample(node) and not isinstance(node["fn"], Delta)
        ]
        total = torch.as_tensor(trace.log_prob_sum() + handler.log_jacobian, dtype=self.program.dtype)
        return torch.where(torch.stack(inside).all(), total, torch.full_like(total, -torch.inf))

    @property
    def _slices(self) -> Mapping[str, tuple[slice, torch.Size]]:
        return self.program.slices

    def _run(self) -> Trace:
        arguments = self.program.arguments
        return poutine.trace(self.fit.guide).get_trace(*arguments.args, **arguments.kwargs)

    def _has_sites(self) -> bool:
        with self.program.isolated(seed=0), torch.no_grad():
            nodes = nodes_of(self._run())
        return all(self._is_drawn(site, nodes) for site in self.program.sites.latent)

    def _is_drawn(self, site: Site, nodes: Mapping[str, Any]) -> bool:
        own, auxiliary = nodes.get(site.name), nodes.get(site.name + UNCONSTRAINED)
        return auxiliary is not None or (own is not None and not isinstance(own["fn"], Delta))

    def _proven(self) -> bool:
        """Whether values put in give the density that the guide's own runs report."""
        with self.program.isolated(seed=1), torch.no_grad():
            values, log_q = latent_draws(self.program, self.fit.guide, NUM_PROOFS)
            points = torch.as_tensor(unconstrained(self.program, values), dtype=self.program.dtype)
            found = torch.stack([self._log_prob(point) - self._log_jacobian(point) for point in points])
        if not torch.isfinite(found).all():
            return False
        scale = float(log_q.abs().max().clamp_min(1.0))
        return float((found - log_q).abs().max()) <= AGREES[self.program.dtype] * scale

    def _log_jacobian(self, point: torch.Tensor) -> torch.Tensor:
        handler = FromUnconstrained(point, self.program.slices)
        arguments = self.program.arguments
        with handler:
            poutine.trace(self.program.model).get_trace(*arguments.args, **arguments.kwargs)
        return handler.log_jacobian
