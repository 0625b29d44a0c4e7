"""A whole SVI step (ELBO, gradient, optimiser) as one captured graph."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from ppl_models.engine.elbo_graph import ElboFunction, elbo_function
from ppl_models.engine.graph import Graph, capture
from ppl_models.engine.optimizers import Adam
from ppl_models.engine.python_state import changed_name, python_state
from ppl_models.errors import CaptureError
from ppl_models.program.feeds import Resident
from ppl_models.program.isolation import forked_random

PROOF_SEED = 2026
MOST_AVERAGED = 100_000
"""Vectors of more parameters (networks) are not averaged over steps: the sum would have to be read at every one."""

Batch = Sequence[torch.Tensor]


class SviGraph:
    """One SVI step of a fit as a graph.

    Args:
        elbo: the negative ELBO as a pure function, at the fit's first data.
        optimizer: the rule of the steps.
        num_threads: threads that a compiled step may use.
        minibatches: whether the data change from step to step.
        resident: rows in memory, of which a step takes those of an index; else its data themselves change.

    Raises:
        CaptureError: the step cannot be captured; the message says why.
    """

    def __init__(
        self,
        elbo: ElboFunction,
        optimizer: Adam,
        *,
        num_threads: int = 1,
        minibatches: bool = False,
        resident: Resident | None = None,
    ):
        self.elbo, self.optimizer, self.minibatches, self.resident = elbo, optimizer, minibatches, resident
        flat = elbo.flat_parameters()
        fixed = tuple(resident.arguments.tensors().values()) if resident else () if minibatches else elbo.data
        with forked_random():
            torch.manual_seed(PROOF_SEED)
            streams, other = (self._streams(elbo.draw_noise(1)) for _ in range(2))
            before = python_state(elbo.program.model, elbo.guide)
            self.averaged = len(flat) <= MOST_AVERAGED
            self.graph: Graph = capture(
                self.step,
                self.start(flat),
                streams,
                (*fixed, *(elbo.coordinates.constants if elbo.coordinates else ())),
                other_streams=other,
                num_threads=num_threads,
            )
            if (name := changed_name(before, python_state(elbo.program.model, elbo.guide))) is not None:
                raise CaptureError(
                    f"model or guide changes '{name}' in Python as it runs, which compiled code would not; pass what "
                    "changes as data"
                )
            elbo.prove()

    def _streams(self, noise: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        schedule = self.optimizer.schedule(0, np.ones(1), self.elbo.program.dtype)
        return [schedule[0], *(tensor[0].contiguous() for tensor in noise), *self.data_of(self.elbo)]

    def data_of(self, elbo: ElboFunction) -> tuple[torch.Tensor, ...]:
        """What one step takes as its data: nothing, an index, or the tensors themselves."""
        if not self.minibatches:
            return ()
        return elbo.data if self.resident is None else (self._index(elbo),)

    def _index(self, elbo: ElboFunction) -> torch.Tensor:
        """As many rows as an ELBO's data have: the first, or for `turned` the last."""
        assert self.resident is not None
        tensors = elbo.program.arguments.tensors()
        name = self.resident.rows.tensors[0]
        first = torch.arange(len(tensors[name]), device=tensors[name].device)
        return first if elbo is self.elbo else self.resident.rows.num_rows - 1 - first

    def start(self, flat: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The state before the first step: the optimizer's, and where it is averaged the sum and the units."""
        total_and_units = (torch.zeros_like(flat), torch.ones_like(flat)) if self.averaged else ()
        return (*self.optimizer.start(flat), *total_and_units)

    def step(self, *inputs: torch.Tensor) -> tuple[torch.Tensor]:
        """One step, in torch: state (changed in place), schedule, noise and perhaps data in, loss out."""
        return self.step_of(self.elbo, *inputs)

    def step_of(self, elbo: ElboFunction, *inputs: torch.Tensor) -> tuple[torch.Tensor]:
        """One step with the data of another ELBO."""
        flat, first, second, *others = inputs
        total, units = (others.pop(0), others.pop(0)) if self.averaged else (None, None)
        num_noise = 2 + len(elbo.subsamples)
        schedule, *noise = others[: 1 + num_noise]
        if self.resident is not None:
            elbo = elbo.with_arguments(self.resident.take(others[1 + num_noise]))
        gradient, loss = torch.func.grad_and_value(elbo)(flat, *noise)
        state = (flat, first, second)
        moved = self.optimizer.update(state, gradient, schedule, self._pieces(), units)
        for old, new in zip(state, moved, strict=True):
            old.copy_(new)
        if total is not None:
            total.copy_(total + flat)
        return (loss,)

    def of(self, elbo: ElboFunction) -> "SviGraph":
        """The same step captured for data of other shapes."""
        # plates of another size
        again = elbo_function(
            elbo.program, elbo.guide, elbo.estimator, elbo.num_particles, coordinates=elbo.coordinates
        )
        return SviGraph(
            again,
            self.optimizer,
            num_threads=self.graph.num_threads,
            minibatches=self.minibatches,
            resident=self.resident,
        )

    def turned(self) -> ElboFunction:
        """The ELBO of other data of the same shapes, where these change: the same in reverse order, or other rows."""
        if not self.minibatches:
            return self.elbo
        if self.resident is not None:
            other = replace(self.elbo)
            return other.with_arguments(self.resident.take(self._index(other)))
        arguments = self.elbo.program.arguments
        turned = {name: tensor.flip(0) if tensor.dim() else tensor for name, tensor in arguments.tensors().items()}
        return self.elbo.with_arguments(arguments.with_tensors(turned))

    def _pieces(self) -> list[slice]:
        ends = np.cumsum([holder.numel() for holder in self.elbo.holders.values()])
        return [slice(int(end) - h.numel(), int(end)) for end, h in zip(ends, self.elbo.holders.values(), strict=True)]
