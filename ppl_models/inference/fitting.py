"""Fit one guide: options checked, model and guide prepared, SVI or another method run, the result put together."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from pyro.optim import PyroOptim
from torch.utils.data import DataLoader

import guides as families
from ppl_models.engine import check_backend
from ppl_models.errors import OptionError, first_line
from ppl_models.inference.course import DIVERGED
from ppl_models.inference.estimating import check_estimator, choose_estimator
from ppl_models.inference.fit_options import FitOptions
from ppl_models.inference.fit_result import Fit
from ppl_models.inference.guides import ResolvedGuide, check_guide_name, resolve_guide
from ppl_models.inference.methods import METHODS, OWN_METHOD, SVI, Method, Normal, as_normal, check_options, choose
from ppl_models.inference.methods.running import run_method
from ppl_models.inference.preconditioning.initial import PATHFINDER, Init, Initial, initial
from ppl_models.inference.preparation import check_device, check_objects, first_guide_run, num_threads, program_of
from ppl_models.inference.ran import Ran, run_svi, run_with
from ppl_models.inference.runs import AUTO, Job
from ppl_models.inference.steps import StepOptions
from ppl_models.options import check_count, check_positive
from ppl_models.posterior import Labels
from ppl_models.program import Data, Parameters, Program
from ppl_models.program.batches import all_batches, batches
from ppl_models.program.data import Arguments
from ppl_models.seeds import check_seed, child_seed
from ppl_models.versions import versions

STEP_SIZE = 1.0
"""What the factors of a searched step size multiply."""
MOST_HELD_OUT = 50
"""Held-out batches that are looked at."""
EXPECTED_STEPS = 4_000
"""About what a fit that may choose takes, with its trials and comparisons."""


def fit_guide(model: Callable[..., Any], data: Data | DataLoader[Any], options: FitOptions) -> Fit:
    """Fit a guide to a model's posterior; `ppl_models.fit` documents the options."""
    started = time.perf_counter()
    guide, chosen = choose(options.guide, options.method)
    check_guide_name(guide)
    check_backend(options.backend)
    settings = {
        "max_steps": _auto_or(check_count, "max_steps", options.max_steps),
        "step_size": _auto_or(check_positive, "step_size", options.step_size),
        "max_seconds": check_positive("max_seconds", options.max_seconds),
        "num_starts": check_count("num_starts", options.num_starts),
        "precondition": bool(options.precondition),
        "num_particles": None if options.num_particles is None else check_count("num_particles", options.num_particles),
        "init_scale": check_positive("init_scale", options.init_scale),
        **_own_options(chosen, options.guide_options or {}, options.method_options or {}),
        "seed": check_seed(options.seed),
    }
    check_objects(options.elbo, options.optimizer, options.dtype)
    check_estimator(options.estimator, options.estimator_options or {}, options.elbo, settings["num_particles"])
    memo: dict[int, Any] = {}
    settings["device"] = str(where := check_device(options.device))
    program = program_of(model, data, guide, options.dtype, where, memo, settings["seed"])
    labels = Labels(options.coords or {}, options.dims or {})
    labels.of_program(program)
    if chosen is not None:
        _check_method_arguments(chosen, program, options)
    with program.isolated(
        seed=child_seed(settings["seed"], "fit"), full_data=False, num_threads=num_threads(program, model, guide)
    ):
        deadline = started + settings["max_seconds"]
        begin = _initial(options.init, program, settings, deadline)
        resolved = resolve_guide(guide, program, settings["guide_options"], memo, settings["init_scale"], begin)
        first_guide_run(resolved, program)
        untouched = Parameters.from_store()
        prepared = time.perf_counter()
        if chosen is not None:
            ran = run_with(chosen, program, resolved, begin, settings, deadline, progress=options.progress)
        else:
            ran = run_svi(_job(program, resolved, data, options, settings, begin, started), progress=options.progress)
        final, ran = _finish(resolved, program, ran)
        parameters = Parameters.from_store()
        _give_back(untouched, resolved.guide)
    return Fit(
        program=program.with_parameters(parameters),
        guide=final or resolved.guide,
        guide_name=resolved.name
        if chosen is None or chosen.name in OWN_METHOD.values()
        else f"{resolved.name} by {chosen.name}",
        family=resolved.family.name if resolved.family else None,
        point=resolved.point or final is None,
        labels=labels,
        seconds=time.perf_counter() - started,
        losses=ran.losses,
        status=ran.status,
        constant_phase=ran.constant_phase,
        stages=ran.stages,
        starts=ran.starts,
        note=ran.note,
        backend=ran.backend,
        backend_note=ran.backend_note,
        timing={"prepare": prepared - started, **ran.timing},
        config={
            **settings,
            **ran.config,
            "held_out": options.held_out is not None,
            "dtype": str(program.dtype).removeprefix("torch."),
            "versions": versions(),
        },
        method=chosen.name if chosen is not None else SVI,
        evaluations=ran.evaluations,
        evidence=ran.evidence,
    )


def _job(
    program: Program,
    resolved: ResolvedGuide,
    data: Data | DataLoader[Any],
    options: FitOptions,
    settings: Mapping[str, Any],
    begin: Initial | None,
    started: float,
) -> Job:
    auto_size, auto_steps = settings["step_size"] == AUTO, settings["max_steps"] == AUTO
    estimator = choose_estimator(
        options.estimator,
        options.estimator_options or {},
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
        held_out=_held_out(program, options.held_out, options.optimizer),
        initial=begin,
    )


def _own_options(
    method: Method | None, guide_options: Mapping[str, Any], method_options: Mapping[str, Any]
) -> dict[str, Any]:
    """The options of guide and method; a method may decide about the guide's."""
    if method is None:
        if method_options:
            raise OptionError(f"method_options: found {sorted(method_options)}, but SVI's are arguments of their own.")
        return {"guide_options": dict(guide_options), "method_options": {}}
    checked = dict(check_options(method, method_options))
    fixed = dict(method.guide_options(checked)) if method.guide_options else {}
    return {"guide_options": {**guide_options, **fixed}, "method_options": checked}


def _check_method_arguments(method: Method, program: Program, options: FitOptions) -> None:
    """Refuse what only SVI can do."""
    for name in ("held_out", "elbo", "optimizer"):
        if getattr(options, name) is not None:
            raise OptionError(f"{name}: method {method.name!r} has no use for it; only method='svi' has.")
    if options.estimator != AUTO:
        raise OptionError(f"estimator: method {method.name!r} takes no steps on one; only method='svi' does.")
    if program.batched:
        raise OptionError(f"data: method {method.name!r} needs all data at once, found a DataLoader; use method='svi'.")


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


def _held_out(program: Program, data: Any, optimizer: PyroOptim | None) -> Sequence[Arguments]:
    if data is None:
        return ()
    if optimizer is not None:
        raise OptionError("held_out: an optimizer of yours decides about its steps alone; give one of the two.")
    return all_batches(program.model, data, program.arguments, program.dtype, program.device, MOST_HELD_OUT)


def _auto_or(check: Callable[[str, Any], Any], name: str, value: Any) -> Any:
    if isinstance(value, str) and value != AUTO:
        raise OptionError(f"{name}: found {value!r}, wanted a number, or 'auto'.")
    return value if isinstance(value, str) else check(name, value)


def _batches(program: Program, data: Any) -> Callable[[], Iterator[Arguments]] | None:
    if not isinstance(data, DataLoader):
        return None
    return lambda: batches(program.model, data, program.arguments, program.dtype, program.device)


def _finish(resolved: ResolvedGuide, program: Program, ran: Ran) -> tuple[Callable[..., Any] | None, Ran]:
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
