"""What a training by epochs has to know: its rows and batches, what they stand for, and the rows that are looked at."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import pyro
import pyro.poutine as poutine
import torch
from torch.utils.data import DataLoader, Dataset

from ppl_models.errors import DataError, GuideError, first_line
from ppl_models.inference.checkpoint import Checkpoint, fingerprint
from ppl_models.inference.epoch_options import check_warmup, number_of_epochs
from ppl_models.inference.epochs import EpochPlan
from ppl_models.inference.fit_options import FitOptions
from ppl_models.inference.guides import ResolvedGuide
from ppl_models.inference.look import Look
from ppl_models.inference.modes import Networks
from ppl_models.inference.prepared import Prepared
from ppl_models.inference.ran import Ran, run_svi
from ppl_models.inference.runs import Job
from ppl_models.inference.steps import StepOptions, Steps, make_steps
from ppl_models.program import Parameters, Program, Rows, find_rows, first_run
from ppl_models.program.batches import all_batches, split_rows
from ppl_models.program.batching import NOT_VECTORISABLE
from ppl_models.program.data import Arguments
from ppl_models.program.estimators import Estimator
from ppl_models.program.feeds import Feed, LoaderFeed, Resident, ResidentFeed
from ppl_models.program.isolation import forked_random, seed_torch
from ppl_models.program.mixed_precision import InMixedPrecision
from ppl_models.program.nodes import nodes_of
from ppl_models.program.row_scale import RowScale, row_scale
from ppl_models.program.suggestions import check_support
from ppl_models.seeds import child_seed

MOST_HELD_OUT = 50
"""Held-out batches that are looked at."""
ROWS_AT_ONCE = 2_048
"""Most rows that are looked at together."""
LOOK_SHARE, FEWEST_LOOKED_AT, MOST_LOOKED_AT = 0.05, 100, 5_000
"""Share of the training rows that are looked at where none are held out, and bounds of their number."""


@dataclass(frozen=True)
class Training:
    """A training by epochs, before its first step.

    Attributes:
        program: the model with all training rows, or with a loader's first batch.
        step_program: the model with the rows of one batch.
        rows: the plate over the rows.
        feed: gives the batches.
        validation: rows held out, some at a time; empty where there are none.
        looked_at: the rows that a look takes, some at a time, with how many they are.
        scale: scales the rows of a batch; None where the model does.
        networks: of model and guide, once that is known.
    """

    program: Program
    step_program: Program
    rows: Rows
    feed: Feed
    validation: tuple[Arguments, ...]
    looked_at: tuple[tuple[Arguments, int], ...]
    scale: RowScale | None = None
    networks: Networks = field(default_factory=Networks, repr=False)

    def scaled(self) -> AbstractContextManager[Any]:
        """A context in which the rows at hand stand for all training rows."""
        return nullcontext() if self.scale is None else self.scale

    def with_guide(self, resolved: ResolvedGuide, networks: Networks) -> "Training":
        """Check the guide on batches, and find the scale. Call it in the fit's world, behind the guide's first run.

        Raises:
            GuideError: the guide has parameters for each row of its own data.
            ModelError: model or guide scales batches in a way of its own.
        """
        first = self.step_program.arguments
        count = _count(self.rows, first)
        other = torch.arange(count - 1 if count > 1 else 2) % count
        batches = ((first, count), (replace(self.rows, num_rows=count).take(first, other), len(other)))
        for arguments, size in batches:
            _check_amortised(resolved, self.program, self.rows, arguments, size)
        callees = {"guide": resolved.guide, "model": self.program.model}
        scale = row_scale(callees, self.rows.plate, self.feed.num_rows, batches)
        return replace(self, scale=scale, networks=networks)

    def look(self, guide: Callable[..., Any], estimator: Estimator, seed: int) -> Look:
        """A look at the validation rows, or at the same training rows every time."""
        return Look(
            self.program,
            guide,
            estimator,
            self.looked_at,
            self.feed.num_rows,
            self.rows.plate,
            child_seed(seed, "look"),
            self.networks,
        )


def plan_training(prepared: Prepared) -> Training:
    """The rows and batches of a training by epochs.

    Raises:
        ModelError: the model has no plate over the rows of its data.
        DataError, OptionError: data and options do not go together.
    """
    program, settings, data = prepared.program, prepared.settings, prepared.data
    rows = find_rows(program)
    seed = settings["seed"]
    validation: tuple[Arguments, ...] = ()
    held_out = prepared.held_out
    if isinstance(data, DataLoader):
        feed: Feed = LoaderFeed(
            program.model,
            data,
            rows,
            program.arguments,
            program.dtype,
            program.device,
            lambda found: _check_batch(program, found),
            lambda found: check_support(program, found),
        )
        step_program, training = program, program
    else:
        arguments = program.arguments
        if isinstance(held_out, float):
            kept, apart = split_rows(rows.num_rows, held_out, seed)
            validation = tuple(_chunks(rows, rows.take(arguments, apart)))
            arguments = rows.take(arguments, kept)
            rows = replace(rows, num_rows=len(kept))
        training = replace(program, arguments=arguments)
        resident = Resident(rows, arguments)
        feed = ResidentFeed(resident, settings["batch_size"], child_seed(seed, "order"), program.device)
        batch = rows.take(arguments, slice(0, feed.size))
        step_program = replace(program, arguments=batch, batched=feed.size < rows.num_rows)
    if held_out is not None and not isinstance(held_out, float):
        validation = tuple(_held_out_rows(program, rows, held_out, child_seed(seed, "held out")))
    looked_at = validation or tuple(_some_rows(rows, training.arguments, seed))
    counted = tuple((chunk, _count(rows, chunk)) for chunk in looked_at)
    return Training(training, step_program, rows, feed, validation, counted)


def run_epochs(job: Job, training: Training, options: FitOptions) -> Ran:
    """Train by epochs. Call it in the fit's world, behind the guide's first run."""
    settings, feed, estimator = job.settings, training.feed, job.options.estimator
    number = number_of_epochs(settings["max_epochs"], settings["max_steps"], feed.num_steps)
    warmup = settings["warmup_epochs"]
    check_warmup(warmup, number, settings["max_steps"], feed.num_steps)
    plan = EpochPlan(
        feed=feed,
        look=training.look(job.resolved.guide, estimator, settings["seed"]),
        estimator=estimator,
        held_out=bool(training.validation),
        max_epochs=number,
        patience=settings["patience"],
        warmup_epochs=warmup,
        seed=settings["seed"],
    )
    if options.checkpoint is not None:
        kept = Checkpoint(options.checkpoint, _facts(job, training, options, number))
        plan = replace(plan, save=kept.save, resume=kept.resume)
    steps = replace(
        job.options,
        batches=lambda: feed,
        resident=feed.resident if isinstance(feed, ResidentFeed) else None,
        expected_steps=number * feed.num_steps,
    )
    job = replace(
        job, program=training.program, step_program=training.step_program, options=steps, epochs=plan, held_out=()
    )
    if options.mixed_precision:
        job = _in_mixed_precision(job, training)
    with training.scaled():
        if options.elbo is None:
            with forked_random(training.program.device):
                estimator.check(training.step_program, job.resolved.guide)
        ran = run_svi(job, progress=options.progress)
    looked_at = sum(count for _, count in training.looked_at)
    config = {"max_epochs": number, "num_rows": feed.num_rows, "rows_looked_at": looked_at}
    return replace(ran, config={**ran.config, **config})


def _in_mixed_precision(job: Job, training: Training) -> Job:
    """The same job, its steps' products in bfloat16; looks and all that comes after the fit are in float32."""
    model: Any = InMixedPrecision(training.program.model)
    guide: Any = InMixedPrecision(job.resolved.guide)

    def make(program: Program, _: Any, options: StepOptions) -> Steps:
        return make_steps(replace(program, model=model), guide, options)

    return replace(job, make_steps=make)


def _facts(job: Job, training: Training, options: FitOptions, max_epochs: int) -> dict[str, Any]:
    """What must be the same for a training that goes on."""
    arguments = training.program.arguments
    return {
        **{name: value for name, value in job.settings.items() if name != "max_seconds"},
        "max_epochs": max_epochs,
        "num_rows": training.feed.num_rows,
        "guide": job.resolved.name,
        "estimator": repr(job.options.estimator),
        "elbo": type(options.elbo).__name__,
        "mixed_precision": options.mixed_precision,
        "dtype": str(training.program.dtype),
        "parameters": {name: list(v.shape) for name, v in Parameters.from_store().values.items()},
        "data": fingerprint(arguments.tensors()) if isinstance(training.feed, ResidentFeed) else "a loader's",
        "held_out": _held_out_print(training, options),
    }


def _held_out_print(training: Training, options: FitOptions) -> str | None:
    """What tells the rows held out from others; the order of a loader's is its own."""
    if not training.validation:
        return None
    if isinstance(options.held_out, (float, DataLoader, Dataset)):
        return type(options.held_out).__name__
    return ", ".join(fingerprint(chunk.tensors()) for chunk in training.validation)


def _check_batch(program: Program, arguments: Arguments) -> None:
    """Run the model once with validation, so that data outside of a support are named."""
    with forked_random(program.device), torch.no_grad(), pyro.validation_enabled(True):
        first_run(program.model, arguments)


def _held_out_rows(program: Program, rows: Rows, held_out: Any, seed: int) -> list[Arguments]:
    with forked_random(program.device):
        seed_torch(seed)  # a loader may shuffle, and rows in another order meet other noise
        try:
            found = all_batches(
                program.model, held_out, program.arguments, program.dtype, program.device, MOST_HELD_OUT
            )
        except DataError as error:
            raise DataError(f"held_out: {str(error).removeprefix('data: ')}") from error
    missing = [name for name in rows.tensors if name not in found[0].tensors()]
    if missing:
        raise DataError(f"held_out: argument '{missing[0]}' is missing. Give them as `data` are given.")
    for batch in found:
        try:
            with program.isolated(full_data=False):
                _check_batch(program, batch)
        except DataError as error:
            raise DataError(f"held_out: {error}") from error
    return [chunk for batch in found for chunk in _chunks(rows, batch)]


def _chunks(rows: Rows, arguments: Arguments) -> list[Arguments]:
    return list(replace(rows, num_rows=_count(rows, arguments)).chunks(arguments, ROWS_AT_ONCE))


def _some_rows(rows: Rows, arguments: Arguments, seed: int) -> list[Arguments]:
    count = _count(rows, arguments)
    number = min(count, max(FEWEST_LOOKED_AT, min(int(LOOK_SHARE * count), MOST_LOOKED_AT)))
    generator = torch.Generator().manual_seed(child_seed(seed, "looked at"))
    index = torch.randperm(count, generator=generator, device="cpu")[:number].sort().values
    return _chunks(rows, replace(rows, num_rows=count).take(arguments, index))


def _count(rows: Rows, arguments: Arguments) -> int:
    return len(arguments.named()[rows.tensors[0]])


def _check_amortised(resolved: ResolvedGuide, program: Program, rows: Rows, arguments: Arguments, size: int) -> None:
    try:
        with torch.no_grad():
            drawn = nodes_of(poutine.trace(resolved.guide).get_trace(*arguments.args, **arguments.kwargs))
    except NOT_VECTORISABLE as error:
        raise GuideError(_not_amortised(resolved.name, first_line(error))) from error
    for site in program.sites.latent + program.sites.discrete:
        if site.name in rows.latents and site.name in drawn:
            found = tuple(drawn[site.name]["value"].shape)
            axis = len(found) - site.event_dim + rows.dim
            if axis < 0 or found[axis] not in (size, 1):
                raise GuideError(_not_amortised(resolved.name, f"'{site.name}' has shape {found} for {size} rows"))


def _not_amortised(name: str, found: str) -> str:
    return (
        f"guide '{name}' cannot be trained on batches: {found}. Its parameters belong to single rows; take an "
        "amortised guide (guides.amortized(model)), or leave batch_size and max_epochs out."
    )
