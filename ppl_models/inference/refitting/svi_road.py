"""Refits by SVI: the steps are compiled once, and each refit goes the whole course of a fit on them."""

import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import torch

from ppl_models.engine import EAGER, CompiledSteps, Target, elbo_function
from ppl_models.engine.proof import agree
from ppl_models.errors import BackendWarning, CaptureError
from ppl_models.inference.course import DIVERGED
from ppl_models.inference.preconditioning import precondition
from ppl_models.inference.ran import Ran, ran_of
from ppl_models.inference.refitting.guide_draws import GuideDraws
from ppl_models.inference.refitting.swapping import SwapError
from ppl_models.inference.runs import Job, run_once
from ppl_models.inference.steps import StepOptions, Steps, make_steps
from ppl_models.program import Parameters, Program, isolated
from ppl_models.program.estimators import Total
from ppl_models.program.isolation import forked_random
from ppl_models.seeds import child_seed

PROOF_SEED = 2027
MANY_STEPS = 1_000_000
"""Steps that the code is compiled for: those of many refits."""


@dataclass(frozen=True)
class SviRoad:
    """Steps compiled once, bound to tensors of data and of coordinates that each refit fills anew.

    A refit makes the look at its own data, takes its coordinates from it, looks for its step size, and goes through
    the stages of a fit with their rules; nothing of it comes from the first data but the code.

    Attributes:
        job: what the fit was told.
        target: the log density at the present data.
        steps: the compiled steps.
        draw: draws of the guide; None where they cannot be written down.
    """

    job: Job
    target: Target
    steps: Steps
    draw: GuideDraws | None

    @classmethod
    def of(cls, job: Job, target: Target) -> "SviRoad":
        """Prepare it. Call it in the fit's world, behind the guide's first run.

        Raises:
            SwapError: the steps cannot be compiled.
        """
        settings, program, guide = job.settings, job.program, job.resolved.guide
        look = None
        if settings["precondition"]:
            look = precondition(
                guide,
                program,
                child_seed(settings["seed"], "look 0"),
                init_scale=settings["init_scale"],
                initial=job.initial,
                target=target,
            )
        coordinates = look.coordinates if look is not None else None
        options = replace(job.options, coordinates=coordinates, expected_steps=MANY_STEPS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BackendWarning)  # the refitter's note says it
            steps = make_steps(program, guide, options)
        if steps.backend == EAGER:
            raise SwapError(f"its steps are eager: {steps.note or 'as was asked for'}")
        return cls(replace(job, target=target), target, steps, world_draws(program, guide))

    def run(self, seed: int, fresh: Program) -> Ran:
        """Fit the data that the program's tensors hold now, and leave the parameters in the store.

        Args:
            seed: of everything random.
            fresh: the program with tensors of its own for these data, with which the code is compared.

        Raises:
            SwapError: the code gives other numbers than the model at these data, or the fit diverged.
        """
        job = replace(
            self.job,
            settings={**self.job.settings, "seed": seed},
            started=time.perf_counter(),
            make_steps=lambda *given: self._steps_from(given[2], fresh),
        )
        done = run_once(job, 0, lambda *_: None)
        if done.trajectory.status == DIVERGED and not done.improper:
            raise SwapError(f"it diverged: {done.trajectory.note}")
        return ran_of(job, done)

    def _steps_from(self, options: StepOptions, fresh: Program) -> Steps:
        """The compiled steps, at the start and in the coordinates of this refit."""
        maker, own = self.steps.maker, self.steps.coordinates
        assert isinstance(maker, CompiledSteps)
        if (own is None) != (options.coordinates is None):
            raise SwapError("a look at the target gave coordinates for one of the data alone")
        if own is not None and options.coordinates is not None:
            try:
                own.take(options.coordinates)
            except CaptureError as error:
                raise SwapError(str(error)) from error
        maker.begin(maker.elbo.flat_parameters())
        _prove(maker, fresh)
        return replace(self.steps, seconds={})


def _prove(maker: CompiledSteps, fresh: Program) -> None:
    """Compare loss and gradient of the compiled steps with those of model and guide, near the present start."""
    flat = maker.elbo.nudged(maker.position())
    found = maker.losses_at(flat, 1, PROOF_SEED)[0], maker.gradient_at(flat, PROOF_SEED)
    with forked_random(), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch's, about what vmap loops over
        torch.manual_seed(PROOF_SEED)
        noise = [tensor[0] for tensor in maker.elbo.draw_noise(1)]
        elbo = maker.elbo.with_arguments(fresh.arguments)
        gradient, loss = torch.func.grad_and_value(elbo)(flat, *noise)
    if not (agree(torch.as_tensor(found[0]).to(loss), loss) and agree(found[1], gradient)):
        raise SwapError("the compiled steps give other numbers than the model does at other data")


def world_draws(program: Program, guide: Callable[..., Any]) -> GuideDraws | None:
    """Draws of a guide by operations written down; None where it cannot be. Call it in the fit's world."""
    with whole_world(program, 0):
        try:
            return GuideDraws(elbo_function(program, guide, Total(), 1))
        except CaptureError:
            return None


def whole_world(program: Program, seed: int) -> AbstractContextManager[None]:
    """The world of a fit's draws: with the parameters that are in the store, and whole plates."""
    parameters = Parameters.from_store()
    return isolated(
        seed=seed, dtype=program.dtype, parameters=parameters, full_data=not program.batched, device=program.device
    )
