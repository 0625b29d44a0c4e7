"""Fit one guide: options checked, model and guide prepared, SVI or another method run, the result put together."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.utils.data import DataLoader

import guides as families
from ppl_models.errors import OptionError, first_line
from ppl_models.inference.course import DIVERGED
from ppl_models.inference.epoch_options import named_estimator
from ppl_models.inference.estimating import choose_estimator
from ppl_models.inference.fit_options import FitOptions
from ppl_models.inference.fit_result import Fit
from ppl_models.inference.guides import ResolvedGuide, resolve_guide
from ppl_models.inference.methods import METHODS, OWN_METHOD, SVI, Normal, as_normal
from ppl_models.inference.methods.running import run_method
from ppl_models.inference.modes import Networks
from ppl_models.inference.preconditioning.initial import PATHFINDER, Init, Initial, initial
from ppl_models.inference.preparation import first_guide_run, num_threads
from ppl_models.inference.prepared import Prepared, prepare
from ppl_models.inference.ran import Ran, run_svi, run_with
from ppl_models.inference.runs import AUTO, Job
from ppl_models.inference.steps import StepOptions
from ppl_models.inference.training import plan_training, run_epochs
from ppl_models.program import Data, Parameters, Program
from ppl_models.program.batches import all_batches, batches
from ppl_models.program.data import Arguments
from ppl_models.seeds import child_seed
from ppl_models.versions import versions

STEP_SIZE = 1.0
"""What the factors of a searched step size multiply."""
MOST_HELD_OUT = 50
"""Held-out batches that are looked at."""
EXPECTED_STEPS = 4_000
"""About what a fit that may choose takes, with its trials and comparisons."""


def fit_guide(model: Callable[..., Any], data: Any, options: FitOptions) -> Fit:
    """Fit a guide to a model's posterior; `ppl_models.fit` documents the options."""
    started = time.perf_counter()
    prepared = prepare(model, data, options)
    program, guide, chosen, settings = prepared.program, prepared.guide, prepared.method, prepared.settings
    training = plan_training(prepared) if options.by_epochs else None
    if training is not None:
        program = training.program
    sized = program if training is None else training.step_program
    with program.isolated(
        seed=child_seed(settings["seed"], "fit"), full_data=False, num_threads=num_threads(sized, model, guide)
    ):
        deadline = started + settings["max_seconds"]
        begin = _initial(options.init, program, settings, deadline)
        resolved = resolve_guide(
            guide, program, settings["guide_options"], prepared.memo, settings["init_scale"], begin
        )
        first_guide_run(resolved, program)
        untouched = Parameters.from_store()
        begun = time.perf_counter()
        if chosen is not None:
            ran = run_with(chosen, program, resolved, begin, settings, deadline, progress=options.progress)
        else:
            plate = training.rows.plate if training is not None else None
            job = job_of(prepared, resolved, prepared.data, begin, started, plate)
            if training is None:
                ran = run_svi(job, progress=options.progress)
            else:
                training = training.with_guide(resolved, networks := Networks.of(prepared.memo))
                ran = run_epochs(job, training, options)
                networks.settle()
                # The fit scales what a loader gives, so that its first batch is data like any other.
                whole = prepared.program if training.scale is None else replace(prepared.program, batched=False)
                prepared = replace(prepared, program=whole)
        final, ran = finish(resolved, program, ran)
        parameters = Parameters.from_store()
        _give_back(untouched, resolved.guide)
    return put_together(prepared, resolved, final, ran, parameters, started, begun - started)


def put_together(
    prepared: Prepared,
    resolved: ResolvedGuide,
    final: Callable[..., Any] | None,
    ran: Ran,
    parameters: Parameters,
    started: float,
    seconds: float,
) -> Fit:
    """The result.

    Args:
        prepared: what came before any step.
        resolved: the guide that was fitted.
        final: the guide to use; None where it could not be made.
        ran: what the steps left behind.
        parameters: as they were at the end.
        started: `time.perf_counter()` when the fit began.
        seconds: time spent before any step.
    """
    chosen = prepared.method
    return Fit(
        program=prepared.program.with_parameters(parameters),
        guide=final or resolved.guide,
        guide_name=resolved.name
        if chosen is None or chosen.name in OWN_METHOD.values()
        else f"{resolved.name} by {chosen.name}",
        family=resolved.family.name if resolved.family else None,
        point=resolved.point or final is None,
        labels=prepared.labels,
        seconds=time.perf_counter() - started,
        losses=ran.losses,
        status=ran.status,
        constant_phase=ran.constant_phase,
        stages=ran.stages,
        starts=ran.starts,
        note=ran.note,
        backend=ran.backend,
        backend_note=ran.backend_note,
        timing={"prepare": seconds, **ran.timing},
        config={
            **prepared.settings,
            **ran.config,
            "held_out": prepared.options.held_out is not None,
            "dtype": str(prepared.program.dtype).removeprefix("torch."),
            "versions": versions(),
        },
        method=chosen.name if chosen is not None else SVI,
        evaluations=ran.evaluations,
        evidence=ran.evidence,
        history=ran.history,
        options=prepared.options,
    )


def job_of(
    prepared: Prepared,
    resolved: ResolvedGuide,
    data: Data | DataLoader[Any],
    begin: Initial | None,
    started: float,
    plate: str | None = None,
) -> Job:
    """What SVI needs to know. Call it in the fit's world, behind the guide's first run.

    Args:
        prepared: what came before.
        resolved: the guide.
        data: as they were given.
        begin: where the user wants it to begin.
        started: `time.perf_counter()` when the fit began.
        plate: over the rows, in a training by epochs.
    """
    program, options, settings = prepared.program, prepared.options, prepared.settings
    auto_size, auto_steps = settings["step_size"] == AUTO, settings["max_steps"] == AUTO
    name, estimator_options = named_estimator(options, plate)
    estimator = choose_estimator(
        name,
        estimator_options,
        resolved,
        program,
        options.elbo,
        settings["num_particles"],
    )
    return Job(
        program=program,
        resolved=resolved,
        options=StepOptions(
            backend=options.backend,
            step_size=STEP_SIZE if auto_size else settings["step_size"],
            num_particles=settings["num_particles"],
            elbo=options.elbo,
            optimizer=options.optimizer,
            expected_steps=EXPECTED_STEPS if auto_steps else settings["max_steps"] // 2,
            num_threads=torch.get_num_threads(),
            estimator=estimator,
            batches=_batches(program, data),
        ),
        settings=settings,
        started=started,
        held_out=_held_out(program, prepared),
        initial=begin,
    )


def _initial(init: Init | Fit, program: Program, settings: Mapping[str, Any], deadline: float) -> Initial | None:
    def pathfinder() -> Normal:
        method = METHODS[PATHFINDER]
        found, _ = run_method(
            method,
            program,
            method.defaults,
            guide=None,
            initial=None,
            seed=child_seed(settings["seed"], "init"),
            max_steps=None,
            deadline=deadline,
            update=lambda *_: None,
        )
        return as_normal(found.approximation)

    return initial(init, program, pathfinder)


def _held_out(program: Program, prepared: Prepared) -> Sequence[Arguments]:
    data = prepared.held_out
    if data is None or prepared.options.by_epochs:
        return ()
    if prepared.options.optimizer is not None:
        raise OptionError("held_out: an optimizer of yours decides about its steps alone; give one of the two.")
    return all_batches(program.model, data, program.arguments, program.dtype, program.device, MOST_HELD_OUT)


def _batches(program: Program, data: Any) -> Callable[[], Iterator[Arguments]] | None:
    if not isinstance(data, DataLoader):
        return None
    return lambda: batches(program.model, data, program.arguments, program.dtype, program.device)


def finish(resolved: ResolvedGuide, program: Program, ran: Ran) -> tuple[Callable[..., Any] | None, Ran]:
    """The guide to use, after the step that some families make at the end; None where that step failed."""
    if resolved.family is None or resolved.family.finalize is None:
        return resolved.guide, ran
    try:
        final = resolved.family.finalize(resolved.guide, *program.arguments.args, **program.arguments.kwargs)
    except families.LaplaceError as error:
        return None, replace(ran, status=DIVERGED, note=first_line(error))
    return final, ran


def _give_back(untouched: Parameters, guide: Callable[..., Any]) -> None:
    """Return tensors that a user's closure may hold to the values they had before the fit."""
    own = {id(p) for p in guide.parameters()} if isinstance(guide, torch.nn.Module) else set()
    with torch.no_grad():
        for name, holder in untouched.holders.items():
            if id(holder) not in own:
                holder.copy_(untouched.values[name])
