"""`ppl.fit`: a variational posterior by Pyro's own SVI."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyro
import pyro.poutine as poutine
import torch
from pyro.infer.elbo import ELBO
from pyro.optim import PyroOptim
from torch.utils.data import DataLoader

import guides as families
from ppl_models.engine import check_backend
from ppl_models.errors import GuideError, ModelError, OptionError, PPLError, first_line
from ppl_models.inference.course import DIVERGED, Trajectory
from ppl_models.inference.fit_result import Fit
from ppl_models.inference.guides import GuideSpec, ResolvedGuide, check_guide_name, resolve_guide
from ppl_models.inference.private import num_module_parameters, private_copy
from ppl_models.inference.runs import AUTO, Job, run_starts
from ppl_models.inference.steps import StepOptions
from ppl_models.options import check_count, check_positive
from ppl_models.posterior import Coords, Dims, Labels
from ppl_models.program import Data, Parameters, Program, build_program, check_guide_covers
from ppl_models.program.batches import all_batches, batches, first_batch
from ppl_models.program.data import Arguments
from ppl_models.progress import progress_bar
from ppl_models.seeds import check_seed, child_seed
from ppl_models.versions import versions

LARGE_MODULE = 100_000
"""Modules with more parameters than this are networks, and are fitted in float32 unless told otherwise."""
STEP_SIZE = 1.0
"""What the factors of a searched step size multiply."""
MOST_HELD_OUT = 50
"""Held-out batches that are looked at."""
EXPECTED_STEPS = 4_000
"""About what a fit that may choose takes, with its trials and comparisons."""
ONE_THREAD = 500_000
"""Programs that hold fewer numbers run in one thread."""


def fit(
    model: Callable[..., Any],
    data: Data | DataLoader[Any],
    *,
    guide: GuideSpec,
    held_out: Data | DataLoader[Any] | None = None,
    guide_options: Mapping[str, Any] | None = None,
    max_steps: int | str = AUTO,
    step_size: float | str = AUTO,
    max_seconds: float = 300.0,
    num_starts: int = 1,
    precondition: bool = True,
    num_particles: int | None = None,
    init_scale: float = 0.1,
    elbo: ELBO | None = None,
    optimizer: PyroOptim | None = None,
    seed: int = 0,
    dtype: torch.dtype | None = None,
    device: str = "cpu",
    backend: str = "auto",
    coords: Coords | None = None,
    dims: Dims | None = None,
    progress: bool = False,
) -> Fit:
    """Fit a guide to a model's posterior with Pyro's SVI.

    Args:
        model: a Pyro model, function or `PyroModule`; it is not changed, nor is a guide given as a module.
        data: a mapping, for `model(**data)`, or a tuple, for `model(*data)`. Arrays become tensors. A `DataLoader`
            gives such a batch for every step, epoch after epoch; scaling to all the data is the model's part
            (`pyro.plate(name, size, subsample_size=len(batch))` or `pyro.poutine.scale`), and the fit's own draws and
            checks see the first batch.
        guide: a family's name (`guides.names()`), an AutoGuide class or instance, a factory `model -> guide`, or a
            guide function or module.
        held_out: data like `data` that are not fitted; the fit then ends when their ELBO has had no new best for a
            while, also at lower step sizes, and keeps the best. For amortised guides, which can overfit their data.
        guide_options: options of a family named by text.
        max_steps: most SVI steps; the fit stops earlier, when steps at a lower step size gain no more. "auto" takes
            100,000; 10,000 for networks of more than 100,000 parameters, and 5,000 for an optimizer of yours.
        step_size: step size of Adam to begin with, in the fit's coordinates; lowered as the fit becomes stationary.
            "auto" tries several in a few steps each, and takes the largest that gets as far as the best.
        max_seconds: the fit ends with what it has after this time, that of a compiler apart.
        num_starts: independent fits, from the guide's own start and from draws of the prior; the best is kept, and
            `starts` tells how far apart they ended.
        precondition: whether an automatic guide is fitted in coordinates in which the target has about unit scale. They
            come from a quick look at the model's log density, and change neither family nor result's units.
        num_particles: ELBO particles per step, vectorised where the model allows it; None takes up to 64 where they are
            vectorised, else 1.
        init_scale: initial scale of automatic families, unconstrained; where there is preconditioning, that of the
            look.
        elbo: a Pyro ELBO, in place of `Trace_ELBO` (`TraceEnum_ELBO` for models with enumerated sites).
        optimizer: a Pyro optimizer, in place of Adam with the cool-down; then all `max_steps` are made.
        seed: seed of everything random in the fit.
        dtype: floating dtype; None takes float64, or float32 for large networks.
        device: where model, guide and data are put: "cpu", "cuda" or "cuda:1".
        backend: what makes the steps. "eager": Pyro's own SVI. "native": the whole step (ELBO, gradient, Adam) as
            machine code that runs without Python, hundreds of times faster after some seconds of compiling, which the
            cache saves the next time. "inductor": the same graph compiled by torch in this process; slower than native,
            but also for a GPU. "auto": native where it is cached or where `max_steps` eager steps would take longer
            than compiling, else eager. What cannot be compiled (guides that are not reparameterised, other estimators
            than `Trace_ELBO` and `TraceMeanField_ELBO`, other optimizers than Adam and ClippedAdam, with clipping and a
            torch schedule that is stepped once a step) is left to Pyro.
        coords: labels of the elements along each dim of the draws.
        dims: names of a site's axes; plates name theirs.
        progress: show one bar, with the smoothed ELBO.

    Returns:
        The fit. That it did not converge is told by its `status`.

    Raises:
        DataError, ModelError, GuideError, OptionError, UnknownNameError: before any step; the message names the
            argument or site, what was found, what was wanted and what to do.
    """
    started = time.perf_counter()
    check_guide_name(guide)
    check_backend(backend)
    settings = {
        "max_steps": max_steps if max_steps == AUTO else _count_or_auto("max_steps", max_steps),
        "step_size": step_size if step_size == AUTO else _positive_or_auto("step_size", step_size),
        "max_seconds": check_positive("max_seconds", max_seconds),
        "num_starts": check_count("num_starts", num_starts),
        "precondition": bool(precondition),
        "num_particles": None if num_particles is None else check_count("num_particles", num_particles),
        "init_scale": check_positive("init_scale", init_scale),
        "guide_options": dict(guide_options or {}),
        "seed": check_seed(seed),
    }
    _check_objects(elbo, optimizer, dtype)
    memo: dict[int, Any] = {}
    settings["device"] = str(where := _device(device))
    program = _program(model, data, guide, dtype, where, memo, settings["seed"])
    labels = Labels(coords or {}, dims or {})
    labels.of_program(program)
    with program.isolated(
        seed=child_seed(settings["seed"], "fit"), full_data=False, num_threads=_threads(program, model, guide)
    ):
        resolved = resolve_guide(guide, program, settings["guide_options"], memo, settings["init_scale"])
        _first_guide_run(resolved, program)
        untouched = Parameters.from_store()
        prepared = time.perf_counter()
        job = Job(
            program=program,
            resolved=resolved,
            options=StepOptions(
                backend=backend,
                step_size=STEP_SIZE if step_size == AUTO else settings["step_size"],
                num_particles=settings["num_particles"],
                elbo=elbo,
                optimizer=optimizer,
                expected_steps=EXPECTED_STEPS if max_steps == AUTO else int(settings["max_steps"]) // 2,
                num_threads=torch.get_num_threads(),
                batches=_batches(program, data),
            ),
            settings=settings,
            started=started,
            held_out=_held_out(program, held_out, optimizer),
        )
        with progress_bar(f"fit {resolved.name}", job.max_steps, show=progress) as update:
            done = run_starts(job, update)
        final, trajectory = _finish(resolved, program, done.trajectory)
        parameters = Parameters.from_store()
        _give_back(untouched, resolved.guide)
    steps = done.steps
    config = {
        **settings,
        "num_particles": steps.num_particles,
        "elbo": steps.elbo,
        "optimizer": steps.optimizer,
        "preconditioned": done.preconditioned,
        "held_out": held_out is not None,
        "trial_steps": trajectory.trial_steps,
        "dtype": str(program.dtype).removeprefix("torch."),
        "versions": versions(),
    }
    return Fit(
        program=program.with_parameters(parameters),
        guide=final or resolved.guide,
        guide_name=resolved.name,
        family=resolved.family.name if resolved.family else None,
        point=resolved.point or final is None,
        losses=trajectory.losses,
        status=trajectory.status,
        constant_phase=trajectory.constant,
        stages=trajectory.stages,
        starts=done.starts,
        note="; ".join(part for part in (*done.notes, trajectory.note) if part),
        backend=steps.backend,
        backend_note=steps.note,
        seconds=time.perf_counter() - started,
        timing={
            "prepare": prepared - started,
            "look": done.look_seconds,
            **steps.seconds,
            "steps": trajectory.seconds,
        },
        config=config,
        labels=labels,
    )


def _held_out(program: Program, data: Any, optimizer: PyroOptim | None) -> Sequence[Arguments]:
    if data is None:
        return ()
    if optimizer is not None:
        raise OptionError("held_out: an optimizer of yours decides about its steps alone; give one of the two.")
    return all_batches(program.model, data, program.arguments, program.dtype, program.device, MOST_HELD_OUT)


def _count_or_auto(name: str, value: int | str) -> int:
    if isinstance(value, str):
        raise OptionError(f"{name}: found {value!r}, wanted a whole number of at least 1, or 'auto'.")
    return check_count(name, value)


def _positive_or_auto(name: str, value: float | str) -> float:
    if isinstance(value, str):
        raise OptionError(f"{name}: found {value!r}, wanted a number above 0, or 'auto'.")
    return check_positive(name, value)


def _batches(program: Program, data: Any) -> Callable[[], Iterator[Arguments]] | None:
    if not isinstance(data, DataLoader):
        return None
    return lambda: batches(program.model, data, program.arguments, program.dtype, program.device)


def _check_objects(elbo: object, optimizer: object, dtype: object) -> None:
    if elbo is not None and not isinstance(elbo, ELBO):
        raise OptionError(f"elbo: found {type(elbo).__name__}, wanted an instance of a Pyro ELBO, as Trace_ELBO().")
    if optimizer is not None and not isinstance(optimizer, PyroOptim):
        raise OptionError(
            f"optimizer: found {type(optimizer).__name__}, wanted a Pyro optimizer, as pyro.optim.Adam({{'lr': 0.01}})."
        )
    if dtype is not None and dtype not in (torch.float32, torch.float64):
        raise OptionError(f"dtype: found {dtype!r}, wanted torch.float64 or torch.float32.")


def _program(
    model: Callable[..., Any],
    data: Data | DataLoader[Any],
    guide: GuideSpec,
    dtype: torch.dtype | None,
    device: torch.device,
    memo: dict[int, Any],
    seed: int,
) -> Program:
    wanted = dtype or (torch.float32 if num_module_parameters(model, guide) > LARGE_MODULE else torch.float64)
    try:
        copied = private_copy(model, memo, wanted, device)
        return build_program(
            copied,
            first_batch(data),
            dtype=wanted,
            seed=child_seed(seed, "program"),
            device=device,
            batched=isinstance(data, DataLoader),
        )
    except ModelError as error:
        # A closure may hold a network in float32, which no copy of ours can convert.
        if dtype is None and wanted == torch.float64 and "dtype" in str(error):
            return _program(model, data, guide, torch.float32, device, {}, seed)
        raise


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError:
        raise OptionError(f"device: found {name!r}, wanted 'cpu', 'cuda' or 'cuda:N'.") from None
    if device.type not in ("cpu", "cuda"):
        raise OptionError(f"device: found {name!r}, wanted 'cpu', 'cuda' or 'cuda:N'.")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise OptionError(f"device: found {name!r}, but this torch sees no CUDA device. Use device='cpu'.")
    return device


def _threads(program: Program, model: Callable[..., Any], guide: GuideSpec) -> int | None:
    # Below this size, handing work to a second thread costs more than it saves; and on a busy machine, where one thread
    # waits for the other at every kernel, ten times more.
    large = program.size_hint >= ONE_THREAD or num_module_parameters(model, guide) > LARGE_MODULE
    return None if large else 1


def _first_guide_run(resolved: ResolvedGuide, program: Program) -> None:
    """Run guide and model once with validation, so that a guide that does not fit is named before any step."""
    args, kwargs = program.arguments.args, program.arguments.kwargs
    sites = program.sites
    with pyro.validation_enabled(True):
        try:
            guide_trace = poutine.trace(resolved.guide).get_trace(*args, **kwargs)
        except PPLError:
            raise
        except Exception as error:
            raise GuideError(
                f"guide '{resolved.name}' failed on its first run: {type(error).__name__}: {first_line(error)}. "
                "It is called with the model's arguments."
            ) from error
        model_trace = poutine.trace(program.model).get_trace(*args, **kwargs)
        check_guide_covers(guide_trace, model_trace, needed={site.name for site in sites.latent + sites.discrete})
        try:
            guide_trace.compute_log_prob()
            if not sites.enumerated:
                poutine.trace(poutine.replay(program.model, guide_trace)).get_trace(*args, **kwargs).compute_log_prob()
        except Exception as error:
            raise GuideError(
                f"guide '{resolved.name}': its draws do not suit the model: {first_line(error)}. "
                "Check that each site has the support of the model's (a positive site needs LogNormal, Gamma, …)."
            ) from error


def _finish(
    resolved: ResolvedGuide, program: Program, trajectory: Trajectory
) -> tuple[Callable[..., Any] | None, Trajectory]:
    """The guide to use, after the step that some families make at the end; None where that step failed."""
    if resolved.family is None or resolved.family.finalize is None:
        return resolved.guide, trajectory
    try:
        final = resolved.family.finalize(resolved.guide, *program.arguments.args, **program.arguments.kwargs)
    except families.LaplaceError as error:
        return None, replace(trajectory, status=DIVERGED, note=first_line(error))
    return final, trajectory


def _give_back(untouched: Parameters, guide: Callable[..., Any]) -> None:
    """Return tensors that a user's closure may hold to the values they had before the fit."""
    own = {id(p) for p in guide.parameters()} if isinstance(guide, torch.nn.Module) else set()
    with torch.no_grad():
        for name, holder in untouched.holders.items():
            if id(holder) not in own:
                holder.copy_(untouched.values[name])
