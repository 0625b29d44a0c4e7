"""SVI steps by Pyro: its ELBO and its gradient, with our optimiser, or all of it with one of the user's."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyro
import torch
from pyro.infer import SVI
from pyro.infer.elbo import ELBO
from pyro.infer.util import zero_grads
from pyro.optim import PyroLRScheduler, PyroOptim

from ppl_models.engine import MOST_AVERAGED, Adam, Coordinates, write_flat
from ppl_models.engine.optimizers import State
from ppl_models.program import Program
from ppl_models.program.data import Arguments
from ppl_models.program.isolation import forked_random, seed_torch

Guide = Callable[..., Any]


class EagerSteps:
    """Steps of Pyro's gradient of the ELBO and our Adam, in coordinates of the parameters.

    Args:
        program: the model with its data.
        guide: the guide, whose parameters are in the param store.
        objective: the ELBO.
        rule: the optimiser.
        coordinates: what Adam moves in; None for the parameters themselves.
        batches: gives the data of one step after the other; None for the same at every step.
    """

    def __init__(
        self,
        program: Program,
        guide: Guide,
        objective: ELBO,
        rule: Adam,
        coordinates: Coordinates | None = None,
        batches: Iterator[Arguments] | None = None,
    ):
        self.program, self.guide, self.objective, self.rule = program, guide, objective, rule
        self.coordinates = coordinates
        self.batches = batches if batches is not None else itertools.repeat(program.arguments)
        self.holders = [h for _, h in pyro.get_param_store().named_parameters() if h.requires_grad]
        start = coordinates.start if coordinates else torch.cat([torch.zeros(0), *_flattened(self.holders)])
        self.state: State = rule.start(start.to(program.dtype))
        self.averaged = 0 < len(start) <= MOST_AVERAGED
        self.units = torch.ones_like(self.state[0])
        self.num_steps = 0
        self.failed = None
        # A parameter may first appear in a later step; torch's Adam makes its steps.
        self.later = PyroOptim(torch.optim.Adam, {"lr": rule.step_size, "betas": rule.betas})
        self._kept_batches: list[Arguments] = []
        self._before: tuple[torch.Tensor, Arguments] | None = None
        self._forget_mean()

    def run(self, factors: np.ndarray, losses: list[float]) -> None:
        """Make steps, and append their losses in nats; stop behind one that is not finite."""
        for factor in factors:
            batch = next(self.batches)
            losses.append(self._step(batch, factor))
            if not np.isfinite(losses[-1]):
                return
            self.num_steps += 1
            if self.averaged:
                self._total += self.state[0]
                self._summed += 1

    def _step(self, batch: Arguments, factor: float) -> float:
        objective: Any = self.objective
        self._before = _random_state(self.program.device), batch
        loss = float(objective.loss_and_grads(self.program.model, self.guide, *batch.args, **batch.kwargs))
        gradient = torch.cat([torch.zeros(0), *_slopes(self.holders)]).to(self.program.dtype)
        self._step_later(factor, finite=bool(np.isfinite(loss)))
        if not np.isfinite(loss):
            return loss
        if self.coordinates is not None:
            gradient = self.coordinates.gradient(self.state[0], gradient)
        (row,) = self.rule.schedule(self.num_steps, np.array([factor]), self.program.dtype)
        self.state = self.rule.update(self.state, gradient, row, (), self.units)
        self.write()
        return loss

    def replay(self, model: Callable[..., Any], guide: Guide) -> None:
        """Compute the loss of the last step again, of that model and guide, with the same batch and random numbers."""
        if self._before is None:
            return
        state, batch = self._before
        objective: Any = self.objective
        with forked_random(self.program.device), torch.no_grad():
            _random_state(self.program.device, state)
            objective.loss(model, guide, *batch.args, **batch.kwargs)

    def _step_later(self, factor: float, *, finite: bool) -> None:
        store = pyro.get_param_store()
        if len(store) == len(self.holders):
            return
        known = {id(holder) for holder in self.holders}
        found = [h for _, h in store.named_parameters() if id(h) not in known and h.requires_grad]
        # Those known already, and those made by the next call.
        options: Any = self.later.pt_optim_args
        options["lr"] = self.rule.step_size * factor
        optimizers: Any = self.later.optim_objs
        for one in optimizers.values():
            for group in one.param_groups:
                group["lr"] = self.rule.step_size * factor
        if found and finite:
            self.later(found)
        zero_grads(found)

    def begin_epoch(self, epoch: int, seed: int) -> None:
        """Go to the first batch of an epoch, with random numbers that depend on the seed alone."""
        begin_epoch(self.batches, epoch, seed)

    def snapshot(self) -> dict[str, torch.Tensor]:
        """All that the optimiser holds between two epochs, by name."""
        return {**{str(number): value.clone() for number, value in enumerate(self.state)}, "units": self.units.clone()}

    def resume(self, state: dict[str, torch.Tensor], num_steps: int) -> None:
        """Go on where a snapshot was taken, after so many steps."""
        flat, first, second = (state[str(number)].to(self.state[0]) for number in range(3))
        self.state, self.units, self.num_steps = (flat, first, second), state["units"].to(self.units), num_steps
        self.write()

    def write(self) -> None:
        """Hand the parameters to the tensors that the program holds."""
        flat = self.state[0]
        flat = flat if self.coordinates is None else self.coordinates.to_parameters(flat)
        write_flat(flat, self.holders)

    def position(self) -> torch.Tensor:
        """Where the optimiser is, shape (num_coordinates,)."""
        return self.state[0].clone()

    def move(self, flat: torch.Tensor, *, afresh: bool = False) -> None:
        """Go on from another point, without momentum; `afresh` forgets the size of the gradients too."""
        _, first, second = self.state
        self.state = flat.clone(), torch.zeros_like(first), torch.zeros_like(second) if afresh else second
        if afresh:
            self.num_steps = 0
        self.write()
        self._forget_mean()

    def take_mean(self) -> torch.Tensor:
        """The mean of the points passed since the last call, and since `move`; the present one where there is none."""
        mean = self._total / self._summed if self._summed else self.position()
        self._forget_mean()
        return mean

    def _forget_mean(self) -> None:
        self._total, self._summed = torch.zeros_like(self.state[0]) if self.averaged else torch.zeros(0), 0

    def losses_at(self, flat: torch.Tensor, num_steps: int, seed: int) -> np.ndarray:
        """Losses at one point, with noise (and batches) that depend on the seed alone; shape (step,)."""
        kept, found = self.state, []
        objective: Any = self.objective
        try:
            self.state = flat, *kept[1:]
            self.write()
            with forked_random(), torch.no_grad():
                torch.manual_seed(seed)
                batches = [self._same_batch(number) for number in range(num_steps)]
                torch.manual_seed(seed)  # drawing new batches takes random numbers, kept ones do not
                for batch in batches:
                    found.append(float(objective.loss(self.program.model, self.guide, *batch.args, **batch.kwargs)))
        finally:
            self.state = kept
            self.write()
        return np.asarray(found)

    def gradient_at(self, flat: torch.Tensor, seed: int) -> torch.Tensor:
        """The loss's gradient at one point, with the noise of one step (and a batch) that depend on the seed alone."""
        kept = self.state
        objective: Any = self.objective
        batch = self._same_batch(0)
        try:
            self.state = flat, *kept[1:]
            self.write()
            with forked_random():
                torch.manual_seed(seed)
                objective.loss_and_grads(self.program.model, self.guide, *batch.args, **batch.kwargs)
            gradient = torch.cat([torch.zeros(0), *_slopes(self.holders)]).to(self.program.dtype)
            return gradient if self.coordinates is None else self.coordinates.gradient(flat, gradient)
        finally:
            self.state = kept
            self.write()

    def set_units(self, units: torch.Tensor) -> None:
        """Multiply each parameter's steps by a unit of its own, shape (num_coordinates,)."""
        self.units = units.clone()

    def _same_batch(self, number: int) -> Arguments:
        while len(self._kept_batches) <= number:
            self._kept_batches.append(next(self.batches))
        return self._kept_batches[number]


class PyroSteps:
    """Steps of Pyro's SVI with an optimizer of the user's, whose step sizes are its own."""

    averaged = False
    failed = None

    def __init__(
        self,
        program: Program,
        guide: Guide,
        objective: ELBO,
        optimizer: PyroOptim,
        batches: Iterator[Arguments] | None = None,
    ):
        self.optimizer = optimizer
        self.svi_step: Callable[..., Any] = SVI(program.model, guide, optimizer, objective).step
        self.batches = batches if batches is not None else itertools.repeat(program.arguments)

    def run(self, factors: np.ndarray, losses: list[float]) -> None:
        """Make as many steps as there are factors, which do not count; stop behind a loss that is not finite."""
        for _ in factors:
            batch = next(self.batches)
            losses.append(float(self.svi_step(*batch.args, **batch.kwargs)))
            if isinstance(self.optimizer, PyroLRScheduler):
                # A scheduler that looks at the losses wants the last one.
                plateau = self.optimizer.pt_scheduler_constructor is torch.optim.lr_scheduler.ReduceLROnPlateau
                self.optimizer.step(*losses[-1:] if plateau else ())
            if not np.isfinite(losses[-1]):
                return

    def begin_epoch(self, epoch: int, seed: int) -> None:
        """Go to the first batch of an epoch, with random numbers that depend on the seed alone."""
        begin_epoch(self.batches, epoch, seed)

    def write(self) -> None:
        """Nothing: Pyro's steps change the tensors that the program holds."""


def begin_epoch(batches: Any, epoch: int, seed: int) -> None:
    """Go to the first batch of an epoch of a feed."""
    seed_torch(seed)
    batches.begin(epoch)


def _random_state(device: torch.device, given: torch.Tensor | None = None) -> torch.Tensor:
    """The state of the generator whose numbers a step takes, which another one may replace."""
    generator: Any = torch.cuda if device.type == "cuda" else torch
    if given is not None:
        generator.set_rng_state(given)
        return given
    return generator.get_rng_state()


def _flattened(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    return [tensor.detach().reshape(-1) for tensor in tensors]


def _slopes(holders: list[torch.Tensor]) -> list[torch.Tensor]:
    """The gradients that the holders have, which they lose."""
    found = []
    for holder in holders:
        found.append(torch.zeros_like(holder).reshape(-1) if holder.grad is None else holder.grad.reshape(-1).clone())
        holder.grad = None
    return found
