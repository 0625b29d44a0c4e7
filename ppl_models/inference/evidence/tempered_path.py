"""The path of densities from a start that can be drawn from to the posterior, for many chains and data at once."""

from dataclasses import dataclass
from typing import Any, Protocol

import torch

from ppl_models.engine.tempered import TwoEnds
from ppl_models.errors import OptionError
from ppl_models.inference.evidence.prior_likelihood import Split, prior_and_likelihood
from ppl_models.inference.flat_guide import FlatGuide
from ppl_models.inference.proposal import Proposal
from ppl_models.inference.sitewise_guide import SitewiseGuide
from ppl_models.program import Program, map_draws
from ppl_models.seeds import child_seed


@dataclass(frozen=True)
class States:
    """Where the chains stand.

    Attributes:
        points: unconstrained, shape (chain, datum, dim of one datum).
        first: log density of the start, or the prior's, nats, shape (chain, datum).
        second: log joint density, or the likelihood's, nats, shape (chain, datum).
        first_slope: gradient of `first`, shape of `points`.
        second_slope: gradient of `second`, shape of `points`.
    """

    points: torch.Tensor
    first: torch.Tensor
    second: torch.Tensor
    first_slope: torch.Tensor
    second_slope: torch.Tensor

    def replaced(self, by: "States", where: torch.Tensor) -> "States":
        """The other states where the condition of shape (chain, datum) holds, and these elsewhere."""
        wide = where[..., None]
        return States(
            torch.where(wide, by.points, self.points),
            torch.where(where, by.first, self.first),
            torch.where(where, by.second, self.second),
            torch.where(wide, by.first_slope, self.first_slope),
            torch.where(wide, by.second_slope, self.second_slope),
        )


class PathStart(Protocol):
    """Where a path starts.

    Attributes:
        split: what of the flat vector belongs to which datum.
        geometric: whether the second density is the joint one, so that the path is start^(1 - t) joint^t; otherwise it
            is the likelihood, and the path prior likelihood^t.
    """

    @property
    def split(self) -> Split:
        """What of the flat vector belongs to which datum."""
        ...

    @property
    def geometric(self) -> bool:
        """Which path it is."""
        ...

    def ends(self, flat: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The first density, which integrates to one, and the second, nats, shape (datum,), at one flat point."""
        ...

    def draw(self, num_draws: int, seed: int) -> torch.Tensor:
        """Independent exact draws of the start, shape (draw, dim)."""
        ...


@dataclass(frozen=True)
class PriorStart:
    """The prior of a program."""

    program: Program
    split: Split
    geometric: bool = False

    def ends(self, flat: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Log prior and log likelihood."""
        return prior_and_likelihood(self.program, self.split, flat)

    def draw(self, num_draws: int, seed: int) -> torch.Tensor:
        """Draws of the prior."""
        with self.program.isolated(seed=child_seed(seed, "prior")), torch.no_grad():
            found: Any = map_draws(self.program.prior_draw, num_draws, size_hint=self.program.size_hint)
        return found


@dataclass(frozen=True)
class GuideStart:
    """A fitted guide, of all data together."""

    program: Program
    split: Split
    proposal: Proposal
    geometric: bool = True

    def ends(self, flat: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Log density of the guide and log joint density."""
        return self._log_q(flat).reshape(1), self.program.log_density(flat).reshape(1)

    def draw(self, num_draws: int, seed: int) -> torch.Tensor:
        """Draws of the guide."""
        drawn = self.proposal.draw(num_draws, child_seed(seed, "guide"))
        return torch.as_tensor(drawn, dtype=self.program.dtype, device=self.program.device)

    def _log_q(self, flat: torch.Tensor) -> torch.Tensor:
        proposal = self.proposal
        if isinstance(proposal, FlatGuide):
            return proposal._posterior().log_prob(flat[torch.argsort(proposal._places)])
        if isinstance(proposal, SitewiseGuide):
            return proposal._log_prob(flat)
        raise OptionError(f"start: found {type(proposal).__name__}, wanted a fit whose guide has a density.")


class TemperedPath:
    """Log densities along a path, at the points of many chains. Call it inside `program.isolated()`.

    Args:
        program: the model with its data.
        start: where the path starts.
        num_points: how many points a call will have.
        backend: as of `TwoEnds`.
    """

    def __init__(self, program: Program, start: PathStart, num_points: int, backend: str = "auto"):
        self.program, self.split, self.start = program, start.split, start
        self.density = TwoEnds(program, start.ends, start.split.num_data, num_points, backend)
        self._order = start.split.order.reshape(-1)
        identity = torch.equal(self._order, torch.arange(program.num_dims, device=self._order.device))
        self._inverse = None if identity else torch.argsort(self._order)

    @property
    def num_data(self) -> int:
        """How many terms there are: 1 for all data together."""
        return self.split.num_data

    def blocks(self, flat: torch.Tensor) -> torch.Tensor:
        """Flat vectors, shape (chain, dim), with those of one datum side by side: (chain, datum, dim of one)."""
        rows = flat if self._inverse is None else flat[:, self._order]
        return rows.reshape(len(flat), *self.split.order.shape)

    def flat(self, blocks: torch.Tensor) -> torch.Tensor:
        """The flat vectors of such blocks."""
        rows = blocks.reshape(len(blocks), -1)
        return rows if self._inverse is None else rows[:, self._inverse]

    def at(self, points: torch.Tensor) -> States:
        """The states at points of shape (chain, datum, dim of one)."""
        found = self.density(self.flat(points))
        return States(
            points, found.first, found.second, self.blocks(found.first_slope), self.blocks(found.second_slope)
        )

    def drawn(self, num_draws: int, seed: int) -> States:
        """States at independent draws of the start."""
        return self.at(self.blocks(self.start.draw(num_draws, seed)))

    def log_density(self, states: States, temperature: torch.Tensor) -> torch.Tensor:
        """Log density in nats at inverse temperatures that go with shape (chain, datum); same shape."""
        second = torch.where(temperature > 0, temperature * states.second, 0.0)
        if not self.start.geometric:
            return states.first + second
        return torch.where(temperature < 1, (1.0 - temperature) * states.first, 0.0) + second

    def slope(self, states: States, temperature: torch.Tensor) -> torch.Tensor:
        """The gradient of the log density, shape (chain, datum, dim of one)."""
        wide = temperature[..., None]
        first = (1.0 - wide) * states.first_slope if self.start.geometric else states.first_slope
        return first + wide * states.second_slope

    def rise(self, states: States) -> torch.Tensor:
        """How fast the log density rises with the inverse temperature, nats, shape (chain, datum).

        The likelihood's log density, or log joint less log start; its mean at each temperature integrates to the log
        evidence.
        """
        if not self.start.geometric:
            return states.second
        return (states.second - states.first).nan_to_num(-torch.inf, torch.inf, -torch.inf)
