"""True latents and the data that they make, block by block."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ppl_models.errors import DataError, OptionError
from ppl_models.posterior.predictive import predictive_draws, prior_draws
from ppl_models.program import Data, Program, build_program
from ppl_models.program.data import Arguments, prepare_arguments
from ppl_models.seeds import child_seed

BLOCK = 10
"""Simulations that are made, refitted and stored together; part of what settles the random numbers."""

Truths = Mapping[str, np.ndarray]
Simulate = Callable[[Truths, int], Any]


@dataclass(frozen=True)
class Simulation:
    """One set of data of known origin.

    Attributes:
        truth: the latents, constrained, by name, each of shape (*event).
        arguments: what the target is called with.
    """

    truth: dict[str, np.ndarray]
    arguments: Arguments

    @property
    def data(self) -> Data:
        """The arguments as a user gives them."""
        return self.arguments.args if self.arguments.args else dict(self.arguments.kwargs)


@dataclass(frozen=True)
class Simulator:
    """Makes data from latents.

    Attributes:
        program: the model with the data of the fit.
        target: what is refitted: the same, or the model of two sets of data.
        replaced: the argument of the target that takes an observed site's simulated values, by site; empty where the
            user simulates.
        simulate: of the user's; None for the model's own.
        seed: of the calibration.
    """

    program: Program
    target: Program
    replaced: Mapping[str, str]
    simulate: Simulate | None
    seed: int

    def block(self, index: int, truths: Truths | None = None) -> list[Simulation]:
        """The simulations of a block, the same whenever and wherever they are made.

        Args:
            index: of the block.
            truths: the latents, each of shape (BLOCK, *event); None draws them from the prior.
        """
        seed = child_seed(self.seed, f"simulate {index}")
        latents, observed = self.draws(self.program, seed, truths)
        each = [{name: value[i] for name, value in latents.items()} for i in range(BLOCK)]
        if self.simulate is not None:
            given = [self._given(truth, child_seed(seed, f"data {i}")) for i, truth in enumerate(each)]
            return [Simulation(truth, arguments) for truth, arguments in zip(each, given, strict=True)]
        return [
            Simulation(truth, self._with({site: values[i] for site, values in observed.items()}))
            for i, truth in enumerate(each)
        ]

    def draws(
        self, program: Program, seed: int, truths: Truths | None
    ) -> tuple[dict[str, np.ndarray], dict[str, torch.Tensor]]:
        """A block of latents, and of values of each observed site; each of shape (BLOCK, *event)."""
        names = [site.name for site in program.sites.latent + program.sites.discrete]
        if truths is None:
            with torch.no_grad():
                latents, observed = prior_draws(program, BLOCK, seed)
            found = {name: latents[name].detach().cpu().numpy() for name in names}
        else:
            found = {name: np.asarray(truths[name]) for name in names}
            values = {name: torch.as_tensor(value, device=program.device) for name, value in found.items()}
            with torch.no_grad():
                observed = predictive_draws(program, values, seed)
        return found, {site.name: observed[site.name].detach() for site in program.sites.observed}

    def target_with(self, arguments: Arguments) -> Program:
        """The target with other data, whose density alone is asked for."""
        return replace(self.target, arguments=arguments)

    def _with(self, observed: Mapping[str, torch.Tensor]) -> Arguments:
        tensors = self.target.arguments.tensors()
        new = {self.replaced[site]: value.to(tensors[self.replaced[site]].dtype) for site, value in observed.items()}
        return self.target.arguments.with_tensors({name: value.contiguous() for name, value in new.items()})

    def _given(self, truth: Truths, seed: int) -> Arguments:
        assert self.simulate is not None
        found = self.simulate(truth, seed)
        if isinstance(found, Mapping) and not self.program.arguments.args:
            found = {**self.program.arguments.kwargs, **found}
        if not isinstance(found, Mapping if not self.program.arguments.args else tuple):
            wanted = "a tuple of all arguments" if self.program.arguments.args else "a mapping from arguments to arrays"
            raise OptionError(f"simulate: returned {type(found).__name__}, wanted {wanted}, as the fit's data.")
        given = prepare_arguments(self.program.model, found, self.program.dtype).on(self.program.device)
        own = self.program.arguments.tensors()
        return given.with_tensors(
            {name: value.to(own[name].dtype) for name, value in given.tensors().items() if name in own}
        )


def check_simulated(simulator: Simulator, truths: Truths | None) -> Simulation:
    """Make the first block's data and check that the model takes them as its own.

    Returns:
        The first simulation.

    Raises:
        DataError: the simulated data do not suit the model, or the distribution of a site's data depends on that very
            argument (a series that is also its own lagged covariate).
    """
    first = simulator.block(0, truths)[0]
    target = simulator.target
    found = build_program(
        target.model, first.data, dtype=target.dtype, parameters=target.parameters, device=target.device
    )
    if simulator.simulate is not None:
        return first
    _check_shapes(target.arguments, first.arguments)
    seed = child_seed(simulator.seed, "simulate 0")
    own = simulator.program
    _, observed = simulator.draws(own, seed, truths)
    swapped = {name: first.arguments.named()[target] for name, target in _own_names(simulator).items()}
    again = simulator.draws(replace(own, arguments=own.arguments.with_tensors(swapped)), seed, truths)[1]
    taken = {id(value): name for name, value in found.arguments.named().items()}
    observing = {taken.get(id(value)) for value in found.observed_values.values()}
    for site, name in simulator.replaced.items():
        if not torch.equal(observed[site], again[site]) or name not in observing:
            raise DataError(
                f"site '{site}': what it draws depends on the argument that it observes, so that simulated values "
                "would be drawn given the measured ones. Pass what it depends on as another argument, or give "
                "simulate=, a function (latents, seed) -> data."
            )
    return first


def _own_names(simulator: Simulator) -> dict[str, str]:
    """The target's argument with a site's simulated values, by the program's argument for that site."""
    program = simulator.program
    own = {site: program.arguments.name_of(program.observed_values[site]) for site in simulator.replaced}
    return {str(own[site]): name for site, name in simulator.replaced.items()}


def _check_shapes(own: Arguments, simulated: Arguments) -> None:
    for name, tensor in own.tensors().items():
        found = simulated.tensors()[name].shape
        if found != tensor.shape:
            raise DataError(
                f"argument '{name}': simulated with shape {tuple(found)}, the fit's has {tuple(tensor.shape)}; a "
                "calibration keeps the shape of the data. Let the model's plates take their sizes from other arguments."
            )
