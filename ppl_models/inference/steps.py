"""How the steps of a fit are made: by Pyro's own SVI, or by compiled code."""

import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pyro
import torch
from pyro.infer import Trace_ELBO, TraceEnum_ELBO, TraceMeanField_ELBO
from pyro.infer.elbo import ELBO
from pyro.optim import PyroOptim

from ppl_models.engine import (
    AUTO,
    COMPILERS,
    EAGER,
    Adam,
    Backend,
    CaptureError,
    CompiledSteps,
    Coordinates,
    SviGraph,
    elbo_function,
)
from ppl_models.errors import BackendWarning
from ppl_models.inference.eager_steps import EagerSteps, PyroSteps
from ppl_models.inference.estimating import default_particles
from ppl_models.inference.estimator_elbo import EstimatorELBO
from ppl_models.inference.fault import describe_fault, describe_fault_here
from ppl_models.inference.optimizer_rules import as_rule, optimizer_name
from ppl_models.inference.particles import can_vectorise, can_vmap_particles, default_num_particles
from ppl_models.inference.vmapped_elbo import VmappedTrace_ELBO
from ppl_models.program import Program
from ppl_models.program.data import Arguments
from ppl_models.program.elbo import log_ratio, mean_field_log_ratio
from ppl_models.program.estimators import Estimator, Total, WeightedKl
from ppl_models.program.feeds import Resident
from ppl_models.program.isolation import forked_random

Guide = Callable[..., Any]
BETAS = (0.9, 0.99)
EPSILON = 1e-14
"""Adam's steps do not depend on the gradient's scale but for this; parameters of scale 1e8 have gradients of 1e-8."""
COMPILE_SECONDS = 10.0
"""About what it takes to generate and compile a step."""
FORWARD_SHARE = 0.3
"""Share of an eager step that the forward run takes."""
SECONDS_PER_NUMBER = 6e-8
"""About what one observation of one more particle costs in a vectorised forward run."""


@dataclass(frozen=True)
class Steps:
    """The steps of a fit.

    Attributes:
        maker: makes them: `EagerSteps`, `PyroSteps` or `CompiledSteps`.
        adjustable: whether the factors of the step size count, and the optimiser can be moved from point to point;
            where an optimizer of the user's decides, neither does.
        step_size: what the factors multiply.
        backend: what makes them.
        note: why it was not a faster one.
        elbo: name of the objective.
        optimizer: name of the optimizer.
        num_particles: ELBO particles per step.
        coordinates: what it moves in; None for the parameters themselves.
        seconds: time spent, by stage: "capture" and "compile".
        objective: what the losses are the negative of, for people.
        look_for_fault: says what is not finite at the present parameters, where the failed step was not recorded.
    """

    maker: Any  # what only adjustable steps have is asked of those alone
    adjustable: bool
    step_size: float
    backend: str
    note: str
    elbo: str
    optimizer: str
    num_particles: int
    coordinates: Coordinates | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    objective: str = "ELBO"
    look_for_fault: Callable[[], str] = str

    def fault(self) -> str:
        """What was not finite in the step that failed; empty where that is not known."""
        if self.maker.failed:
            return describe_fault(self.maker.failed)
        return self.look_for_fault()


@dataclass(frozen=True)
class StepOptions:
    """What decides about the steps of a fit; see `ppl_models.fit`."""

    backend: str
    step_size: float
    num_particles: int | None
    elbo: ELBO | None
    optimizer: PyroOptim | None
    expected_steps: int
    num_threads: int
    estimator: Estimator = field(default_factory=Total)
    batches: Callable[[], Iterator[Arguments]] | None = None
    resident: Resident | None = None
    coordinates: Coordinates | None = None


def make_steps(program: Program, guide: Guide, options: StepOptions) -> Steps:
    """Prepare the steps of a fit whose parameters are in the param store."""
    if options.backend == EAGER:
        return _eager(program, guide, options, "")
    if not any(holder.requires_grad for _, holder in pyro.get_param_store().named_parameters()):
        return _eager(program, guide, options, "there is nothing to learn")
    worth = _eager_seconds(program, guide, options)
    started = time.perf_counter()
    try:
        with forked_random():  # eager steps are the same whether capture was tried or not
            svi = _captured_somehow(program, guide, options)
    except CaptureError as error:
        return _fall_back(program, guide, options, worth, f"capture: {error}")
    captured = time.perf_counter() - started
    notes = []
    for backend in COMPILERS.values():
        if options.backend not in (AUTO, backend.name):
            continue
        try:
            if (missing := backend.available()) is not None:
                raise CaptureError(missing)
            if options.backend == AUTO and worth < COMPILE_SECONDS and not backend.is_compiled(svi.graph):
                continue
            return _compiled(program, svi, backend, options, captured, "; ".join(notes))
        except CaptureError as error:
            notes.append(f"backend {backend.name}: {error}")
    if not notes:
        return _eager(program, guide, options, f"compiling would take longer than {worth:.1f} s of eager steps")
    return _fall_back(program, guide, options, worth, "; ".join(notes))


def _fall_back(program: Program, guide: Guide, options: StepOptions, worth: float, reason: str) -> Steps:
    # Who left the choice to us and asks for little work need not hear of it; the fit's `backend_note` says it.
    asked = options.backend != AUTO
    own = options.elbo is not None or options.optimizer is not None
    if asked or (worth >= COMPILE_SECONDS and not own):
        warnings.warn(f"{reason}. Running slower, with eager.", BackendWarning, stacklevel=4)
    return _eager(program, guide, options, reason)


def _eager_seconds(program: Program, guide: Guide, options: StepOptions) -> float:
    """About how long the eager steps of the fit would take, from the time of one run of guide and model."""
    seconds = []
    with forked_random(), torch.no_grad():
        for _ in range(2):  # the first may be slow for reasons of its own
            started = time.perf_counter()
            log_ratio(program.model, guide, program.arguments.args, program.arguments.kwargs)
            seconds.append(time.perf_counter() - started)
    particles = options.num_particles or default_particles(program, options.estimator)
    numbers = particles * options.estimator.draws_inside * sum(site.shape.numel() for site in program.sites.observed)
    return options.expected_steps * (min(seconds) + SECONDS_PER_NUMBER * numbers) / FORWARD_SHARE


def _captured_somehow(program: Program, guide: Guide, options: StepOptions) -> SviGraph:
    try:
        return _captured(program, guide, options)
    except CaptureError:
        if options.num_particles is not None or options.elbo is not None:
            raise
        # Nobody asked for several particles, and what knows no extra axis may still be captured alone.
        return _captured(program, guide, replace(options, num_particles=1))


def _captured(program: Program, guide: Guide, options: StepOptions) -> SviGraph:
    estimator, particles = _estimator(program, options)
    rule = as_rule(options.optimizer) if options.optimizer else Adam(options.step_size, BETAS, EPSILON)
    elbo = elbo_function(program, guide, estimator, particles, coordinates=options.coordinates)
    return SviGraph(
        elbo,
        rule,
        num_threads=options.num_threads,
        minibatches=options.batches is not None,
        resident=options.resident,
    )


def _estimator(program: Program, options: StepOptions) -> tuple[Estimator, int]:
    """The estimator and the draws of one step."""
    if options.elbo is None:
        particles = options.num_particles or default_particles(program, options.estimator)
        return options.estimator, particles * options.estimator.draws_inside
    kind, particles = type(options.elbo), int(getattr(options.elbo, "num_particles", 1))
    if kind is TraceMeanField_ELBO:
        return Total(mean_field_log_ratio), particles
    if kind is (TraceEnum_ELBO if program.sites.enumerated else Trace_ELBO):
        return Total(), particles
    raise CaptureError(f"{kind.__name__} is run by Pyro; compiled are Trace_ELBO and TraceMeanField_ELBO")


def _compiled(
    program: Program, svi: SviGraph, backend: Backend, options: StepOptions, captured: float, note: str
) -> Steps:
    started = time.perf_counter()
    steps = CompiledSteps(svi, backend, options.batches() if options.batches else None)
    elbo = type(options.elbo).__name__ if options.elbo else _name(program, options.estimator)
    return Steps(
        maker=steps,
        adjustable=options.optimizer is None,
        step_size=options.step_size,
        backend=backend.name,
        note=note,
        elbo=elbo,
        optimizer=optimizer_name(options.optimizer),
        num_particles=svi.elbo.num_particles // svi.elbo.estimator.draws_inside,
        coordinates=options.coordinates,
        seconds={"capture": captured, "compile": time.perf_counter() - started},
        objective=_objective_name(options.estimator),
    )


def _objective_name(estimator: Estimator) -> str:
    weighted = isinstance(estimator, WeightedKl) and not estimator.is_elbo
    return "objective" if weighted else "ELBO"


def _name(program: Program, estimator: Estimator) -> str:
    if not isinstance(estimator, Total):
        return EstimatorELBO.__name__
    return (TraceEnum_ELBO if program.sites.enumerated else Trace_ELBO).__name__


def _eager(program: Program, guide: Guide, options: StepOptions, note: str) -> Steps:
    objective, count = _objective(program, guide, options)
    batches = options.batches() if options.batches else None
    if options.optimizer is None:
        rule = Adam(options.step_size, BETAS, EPSILON)
        maker = EagerSteps(program, guide, objective, rule, options.coordinates, batches)
    else:
        maker = PyroSteps(program, guide, objective, options.optimizer, batches)
    return Steps(
        maker=maker,
        adjustable=options.optimizer is None,
        step_size=options.step_size,
        backend=EAGER,
        note=note,
        elbo=type(objective).__name__,
        optimizer=optimizer_name(options.optimizer),
        num_particles=count,
        coordinates=options.coordinates,
        objective=_objective_name(options.estimator),
        look_for_fault=lambda: describe_fault_here(program, guide, getattr(maker, "replay", None)),
    )


def _objective(program: Program, guide: Guide, options: StepOptions) -> tuple[ELBO, int]:
    num_particles, estimator = options.num_particles, options.estimator
    if options.elbo is not None:
        return options.elbo, int(getattr(options.elbo, "num_particles", 1))
    if not isinstance(estimator, Total) or callable(getattr(guide, "strata", None)):
        return _estimated(program, guide, estimator, num_particles)
    kind = TraceEnum_ELBO if program.sites.enumerated else Trace_ELBO
    wanted = default_num_particles(program) if num_particles is None else num_particles
    plates: dict[str, Any] = {"max_plate_nesting": program.sites.max_plate_nesting}
    if wanted > 1 and can_vectorise(program, guide, kind):
        return kind(num_particles=wanted, vectorize_particles=True, **plates), wanted
    if wanted > 1 and kind is Trace_ELBO and can_vmap_particles(program, guide):
        return VmappedTrace_ELBO(num_particles=wanted, **plates), wanted
    used = num_particles or 1
    return kind(num_particles=used, **plates), used


def _estimated(program: Program, guide: Guide, estimator: Estimator, num_particles: int | None) -> tuple[ELBO, int]:
    if num_particles is None:
        together = can_vmap_particles(program, guide, estimator)
        num_particles = default_particles(program, estimator) if together else estimator.fewest
    elbo = EstimatorELBO(estimator, program, num_particles=num_particles)
    return elbo, num_particles
