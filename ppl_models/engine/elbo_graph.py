"""The negative ELBO of a model and guide as a pure function of flat parameters and standard noise."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyro
import torch

from ppl_models.engine.noise import NoiseTape
from ppl_models.engine.protocol import CaptureError
from ppl_models.engine.substitution import Substitution
from ppl_models.errors import first_line
from ppl_models.program import Program
from ppl_models.program.batching import NOT_VECTORISABLE, OutOfPlaceRandomness
from ppl_models.program.elbo import program_log_ratio


@dataclass(frozen=True)
class ElboFunction:
    """The negative ELBO of several particles as a pure function.

    Attributes:
        program: the model with its data.
        guide: the guide.
        holders: the tensors that hold the parameters, by name in the param store.
        num_normal: standard normal numbers that one particle takes.
        num_uniform: standard uniform numbers that one particle takes.
    """

    program: Program
    guide: Callable[..., Any]
    holders: Mapping[str, torch.Tensor]
    num_normal: int
    num_uniform: int

    def __call__(self, flat: torch.Tensor, normal: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
        """Negative ELBO in nats, the mean over particles.

        Args:
            flat: all unconstrained parameters, shape (num_parameters,).
            normal: standard normal noise, shape (particle, num_normal).
            uniform: standard uniform noise, shape (particle, num_uniform).
        """
        mapped = torch.func.vmap(self._log_ratio, in_dims=(None, 0, 0), randomness="different")
        return -mapped(flat, normal, uniform).mean()

    def _log_ratio(self, flat: torch.Tensor, normal: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
        with Substitution(self._pieces(flat)), NoiseTape(normal, uniform), OutOfPlaceRandomness():
            return program_log_ratio(self.program, self.guide)

    def _pieces(self, flat: torch.Tensor) -> dict[int, torch.Tensor]:
        pieces, start = {}, 0
        for holder in self.holders.values():
            stop = start + holder.numel()
            pieces[id(holder)] = flat[start:stop].reshape(holder.shape)
            start = stop
        return pieces

    def flat_parameters(self) -> torch.Tensor:
        """The parameters that the holders have now, as one vector."""
        return torch.cat([holder.detach().reshape(-1) for holder in self.holders.values()])

    def write(self, flat: torch.Tensor) -> None:
        """Give the holders the values of one vector."""
        with torch.no_grad():
            for holder, piece in zip(self.holders.values(), self._pieces(flat).values(), strict=True):
                holder.copy_(piece)


def elbo_function(program: Program, guide: Callable[..., Any]) -> ElboFunction:
    """Describe the ELBO of a guide whose parameters are in the param store.

    Raises:
        CaptureError: the guide is not reparameterised, or draws random numbers that are neither normal nor uniform.
    """
    holders = {name: holder for name, holder in pyro.get_param_store().named_parameters() if holder.requires_grad}
    if not holders:
        raise CaptureError("the guide has no parameter to learn")
    tape = NoiseTape()
    try:
        with torch.no_grad(), tape, OutOfPlaceRandomness():
            program_log_ratio(program, guide)
    except NOT_VECTORISABLE as error:
        raise CaptureError(f"capture failed: {type(error).__name__}: {first_line(error)}") from error
    if tape.num_other:
        raise CaptureError("model or guide draws random numbers that are neither normal nor uniform")
    return ElboFunction(program, guide, holders, tape.num_normal, tape.num_uniform)
