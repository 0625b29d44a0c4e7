"""A fit as what an expectation is taken over: its guide, or by weights its model's posterior."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pyro.poutine as poutine
import torch

from ppl_models.errors import OptionError
from ppl_models.inference.draws import latent_draws, scored, unconstrained
from ppl_models.inference.fit_result import Fit
from ppl_models.inference.monte_carlo.guide_noise import Map, map_of_noise
from ppl_models.inference.monte_carlo.sources import Draws
from ppl_models.inference.proposal import proposal_of
from ppl_models.program import map_draws
from ppl_models.program.handlers import FromUnconstrained


@dataclass(frozen=True)
class FitSource:
    """Draws of a fit's guide: constrained latents and deterministics by name, each of shape (draw, *event).

    Attributes:
        fit: the fit.
    """

    fit: Fit = field(repr=False)

    independent = True

    @property
    def num_uniforms(self) -> int | None:
        """Standard normal numbers behind one draw of a normal guide; None for other guides."""
        return None if self._noise is None else self._noise[0]

    @property
    def size_hint(self) -> int:
        """About how many numbers one run of the model holds."""
        return self.fit.program.size_hint

    @property
    def label(self) -> str:
        """What it is, for people."""
        return f"a fit's guide ({self.fit.guide_name})"

    @property
    def device(self) -> torch.device:
        """Where the fit's tensors stand."""
        return self.fit.program.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the fit's latents."""
        return self.fit.program.dtype

    def draw(self, num_draws: int) -> Draws:
        """Draws of the guide, with torch's global generator."""
        return self.draw_weighted(num_draws, weigh=False)[0]

    def draw_weighted(self, num_draws: int, *, weigh: bool = True) -> tuple[Draws, torch.Tensor]:
        """Draws of the guide, and log p - log q in nats there, shape (draw,).

        Args:
            num_draws: how many.
            weigh: whether the ratio must be one.

        Raises:
            OptionError: a ratio is wanted of a guide without a density.
        """
        if weigh and not self.fit.has_density:
            raise OptionError(
                f"q: the guide '{self.fit.guide_name}' has no density, so its draws cannot be weighted. Take "
                "method='plain', or fit another family."
            )
        program = self.fit.program
        seed = int(torch.randint(2**31 - 1, (), device="cpu"))
        with program.isolated(seed=seed):
            values, log_q = latent_draws(program, self.fit.guide, num_draws)
            log_p, deterministics = scored(program, values, num_draws)
        return {**values, **deterministics}, log_p - log_q

    def from_uniform(self, uniform: torch.Tensor) -> Draws:
        """Draws as a function of numbers strictly between 0 and 1, float64, shape (draw, num_uniforms).

        Raises:
            OptionError: the guide is not a normal one.
        """
        return self.from_normal(torch.special.ndtri(uniform.double()))

    def from_normal(self, normal: torch.Tensor) -> Draws:
        """The same function of standard normal numbers.

        Raises:
            OptionError: the guide is not a normal one.
        """
        if self._noise is None:
            raise OptionError(
                f"q: draws of the guide '{self.fit.guide_name}' are no known function of uniform numbers. Take "
                "method='plain', or fit guide='normal', 'low_rank' or 'full_rank'."
            )
        program = self.fit.program
        with program.isolated(seed=0), torch.no_grad():
            flat = self._noise[1](normal.to(device=self.device, dtype=self.dtype))
            return map_draws(program.constrain, len(flat), flat, size_hint=program.size_hint)

    def log_prob(self, draws: Draws) -> torch.Tensor:
        """Log density of the guide in nats, in constrained coordinates, at draws of every latent, shape (draw,).

        Raises:
            OptionError: its density is known at its own draws alone.
        """
        program, proposal = self.fit.program, self._proposal
        if proposal is None or not isinstance(draws, Mapping):
            raise OptionError(
                f"q: the density of the guide '{self.fit.guide_name}' is not known at given points. Take an automatic "
                "guide, or a distribution."
            )
        with program.isolated(seed=0), torch.no_grad():
            points = unconstrained(program, draws)
            flat = torch.as_tensor(points, dtype=self.dtype, device=self.device)
            jacobian = map_draws(self._log_jacobian, len(flat), flat, size_hint=program.size_hint)
        return torch.as_tensor(proposal.log_prob(points), device=self.device) - jacobian

    @cached_property
    def _noise(self) -> tuple[int, Map] | None:
        return map_of_noise(self.fit)

    @cached_property
    def _proposal(self) -> Any:
        return proposal_of(self.fit)

    def _log_jacobian(self, point: torch.Tensor) -> torch.Tensor:
        program = self.fit.program
        handler = FromUnconstrained(point, program.slices)
        with handler:
            poutine.trace(program.model).get_trace(*program.arguments.args, **program.arguments.kwargs)
        return handler.log_jacobian
