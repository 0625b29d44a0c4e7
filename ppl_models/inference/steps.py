"""How the steps of a fit are made: by Pyro's own SVI, or by a compiled graph of the whole step."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pyro.infer import SVI, Trace_ELBO, TraceEnum_ELBO
from pyro.infer.elbo import ELBO
from pyro.optim import PyroLRScheduler, PyroOptim

from ppl_models.engine import BACKENDS, CaptureError, CompiledSteps, elbo_function
from ppl_models.errors import BackendWarning
from ppl_models.inference.particles import can_vectorise, can_vmap_particles, default_num_particles
from ppl_models.inference.vmapped_elbo import VmappedTrace_ELBO
from ppl_models.program import Program

Guide = Callable[..., Any]
BETAS = (0.9, 0.99)


@dataclass(frozen=True)
class Steps:
    """The steps of a fit.

    Attributes:
        once: makes one step and returns its loss in nats.
        set_factor: sets the step size, relative to the first one; None where an optimizer of the user's decides.
        write: hands the parameters to the param store's tensors, if the steps keep them elsewhere.
        backend: what makes them.
        elbo: name of the objective.
        optimizer: name of the optimizer.
        num_particles: ELBO particles per step.
    """

    once: Callable[[], float]
    set_factor: Callable[[float], None] | None
    write: Callable[[], None]
    backend: str
    elbo: str
    optimizer: str
    num_particles: int


def make_steps(
    program: Program,
    guide: Guide,
    *,
    backend: str,
    step_size: float,
    num_particles: int | None,
    elbo: ELBO | None,
    optimizer: PyroOptim | None,
) -> Steps:
    """Prepare the steps of a fit whose parameters are in the param store.

    A compiled step takes seconds to compile, so "auto" leaves the steps to Pyro; and objects of Pyro's that the user
    gave, only Pyro can run.
    """
    if backend == "inductor":
        try:
            if elbo is not None or optimizer is not None:
                raise CaptureError("an elbo or optimizer of your own is run by Pyro")
            return _compiled(program, guide, step_size, num_particles)
        except CaptureError as error:
            warnings.warn(f"backend inductor: {error}. Running slower, with eager.", BackendWarning, stacklevel=3)
    return _eager(program, guide, step_size, num_particles, elbo, optimizer)


def _compiled(program: Program, guide: Guide, step_size: float, num_particles: int | None) -> Steps:
    if (missing := BACKENDS["inductor"].available()) is not None:
        raise CaptureError(missing)
    count = num_particles or default_num_particles(program)
    steps = CompiledSteps(elbo_function(program, guide), count, step_size, BETAS)
    kind = TraceEnum_ELBO if program.sites.enumerated else Trace_ELBO
    return Steps(steps, steps.set_factor, steps.write, "inductor", kind.__name__, "Adam", count)


def _eager(
    program: Program,
    guide: Guide,
    step_size: float,
    num_particles: int | None,
    elbo: ELBO | None,
    optimizer: PyroOptim | None,
) -> Steps:
    objective, count = _objective(program, guide, num_particles, elbo)
    used = optimizer or PyroOptim(torch.optim.Adam, {"lr": step_size, "betas": BETAS})
    run: Callable[..., Any] = SVI(program.model, guide, used, objective).step

    def once() -> float:
        loss = float(run(*program.arguments.args, **program.arguments.kwargs))
        if isinstance(used, PyroLRScheduler):
            used.step()
        return loss

    def set_factor(factor: float) -> None:
        for one in used.optim_objs.values():
            for group in one.param_groups:
                group["lr"] = step_size * factor

    # Pyro's optimizers are mostly functions that make a PyroOptim of another class.
    name = getattr(used.pt_optim_constructor, "__name__", type(used).__name__)
    adjustable = None if optimizer is not None else set_factor
    return Steps(once, adjustable, lambda: None, "eager", type(objective).__name__, name, count)


def _objective(program: Program, guide: Guide, num_particles: int | None, elbo: ELBO | None) -> tuple[ELBO, int]:
    if elbo is not None:
        return elbo, int(getattr(elbo, "num_particles", 1))
    kind = TraceEnum_ELBO if program.sites.enumerated else Trace_ELBO
    wanted = default_num_particles(program) if num_particles is None else num_particles
    plates: dict[str, Any] = {"max_plate_nesting": program.sites.max_plate_nesting}
    if wanted > 1 and can_vectorise(program, guide, kind):
        return kind(num_particles=wanted, vectorize_particles=True, **plates), wanted
    if wanted > 1 and kind is Trace_ELBO and can_vmap_particles(program, guide):
        return VmappedTrace_ELBO(num_particles=wanted, **plates), wanted
    used = num_particles or 1
    return kind(num_particles=used, **plates), used
