"""The runs of one fit: from several starts where that is asked for, and once more where one diverged."""

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyro
import pyro.poutine as poutine
import torch

from ppl_models.engine import MOST_AVERAGED, Target
from ppl_models.errors import DataError, first_line
from ppl_models.inference.course import CONVERGED, DIVERGED, Plan, Trajectory
from ppl_models.inference.draws import latent_draws
from ppl_models.inference.epochs import EpochPlan
from ppl_models.inference.guides import ResolvedGuide
from ppl_models.inference.held_out import Evaluate, evaluator
from ppl_models.inference.optimisation import optimise
from ppl_models.inference.preconditioning import Preconditioning, precondition
from ppl_models.inference.preconditioning.curvature import MAX_PARAMETERS
from ppl_models.inference.preconditioning.initial import Initial
from ppl_models.inference.steps import StepOptions, Steps, make_steps
from ppl_models.program import Parameters, Program
from ppl_models.program.batching import NOT_VECTORISABLE
from ppl_models.program.data import Arguments
from ppl_models.program.isolation import forked_random
from ppl_models.program.nodes import nodes_of
from ppl_models.progress import Update
from ppl_models.seeds import child_seed

AUTO = "auto"
AUTO_STEPS, NETWORK_STEPS, USERS_STEPS = 100_000, 10_000, 5_000
"""Most steps where nothing is said: of averaged fits, of networks, and of an optimizer of the user's."""
FIRST_FACTOR, NETWORK_FACTOR = 0.03, 0.003
"""Step size over the base where there are too few steps to look for one."""
RETRY_STEP, RETRY_SCALE = 0.1, 0.1
"""Factors of step size and initial scale of the second attempt, where the first diverged."""
ENDLESS_STEPS = 1_000
"""Most steps where the posterior has no scale: they lead nowhere."""
NUM_COMPARED = 1_000
NUM_FINAL = 64
POINT = 1e-12
"""Relative spread below which a latent's draws are a point."""
JITTER = 0.5
UNEVEN = 1_000.0
"""Ratio of the scales of columns from which on a guide of the user's may not reach them all with one step size."""
LARGEST_JITTERED = 1_000
"""Hand-written guides with more parameters hold networks, which differ between starts by their data's order alone."""


@dataclass(frozen=True)
class Start:
    """One of several independent fits.

    Attributes:
        elbo: its ELBO in nats at the end, on noise that all starts share.
        status: how it ended.
        steps: SVI steps made.
        away: largest distance of a latent's mean from that of the fit kept, in posterior sds of that fit.
        latent: the name of that latent.
    """

    elbo: float
    status: str
    steps: int
    away: float = 0.0
    latent: str = ""


@dataclass(frozen=True)
class Job:
    """All that a run needs; see `ppl_models.fit`.

    `target` is the program's log density where it is there already, `make_steps` prepares the steps, `step_program` is
    the program that they are of where that is another, and `epochs` is the plan of a training by epochs.
    """

    program: Program
    resolved: ResolvedGuide
    options: StepOptions
    settings: Mapping[str, Any]
    started: float
    held_out: Sequence[Arguments] = ()
    initial: Initial | None = None
    target: Target | None = None
    step_program: Program | None = None
    epochs: EpochPlan | None = None
    make_steps: Callable[[Program, Callable[..., Any], StepOptions], Steps] = make_steps

    @property
    def max_steps(self) -> int:
        """Most steps of one run."""
        found = self.settings["max_steps"]
        if self.epochs is not None:
            every = self.epochs.max_epochs * self.epochs.feed.num_steps
            return every if found == AUTO else min(found, every)
        if found != AUTO:
            return found
        if self.options.optimizer is not None:
            return USERS_STEPS
        return AUTO_STEPS if self.averaged else NETWORK_STEPS

    @property
    def averaged(self) -> bool:
        """Whether the iterates can be averaged: an automatic guide's, or few parameters."""
        count = sum(holder.numel() for _, holder in pyro.get_param_store().named_parameters())
        return count <= (MOST_AVERAGED if self.resolved.automatic else MAX_PARAMETERS)


@dataclass(frozen=True)
class Done:
    """What the runs gave; the parameters of the run kept are in the param store."""

    steps: Steps
    trajectory: Trajectory
    look_seconds: float
    preconditioned: bool
    notes: tuple[str, ...]
    improper: bool = False
    starts: tuple[Start, ...] = ()
    evaluations: int = 0


@dataclass(frozen=True)
class _Run:
    done: Done
    parameters: Parameters
    elbo: float
    moments: Mapping[str, tuple[np.ndarray, np.ndarray]]


def run_starts(job: Job, update: Update) -> Done:
    """Fit from each start and keep the best. Call it in the fit's world, behind the guide's first run."""
    number = job.settings["num_starts"]
    untouched = Parameters.from_store()
    if number == 1:
        return _with_retry(job, untouched, 0, update)
    runs, pristine = [], job.options
    for start in range(number):
        if runs and _time_is_up(job):
            break
        untouched.restore()
        # An optimizer of the user's remembers each parameter's averages.
        options = replace(pristine, optimizer=copy.deepcopy(pristine.optimizer))
        done = _with_retry(replace(job, options=options), untouched, start, update)
        runs.append(_described(job, done))
    best = max(runs, key=lambda run: (run.done.trajectory.status != DIVERGED, run.elbo))
    best.parameters.restore()
    starts = tuple(_compared(run, best) for run in runs)
    missing = (f"time was left for {len(runs)} of {number} starts",) if len(runs) < number else ()
    spent = sum(run.done.evaluations for run in runs)
    notes = (*best.done.notes, *missing, *_news(starts))
    return replace(best.done, starts=starts, notes=notes, evaluations=spent)


def _time_is_up(job: Job) -> bool:
    return time.perf_counter() - job.started > job.settings["max_seconds"]


def _with_retry(job: Job, untouched: Parameters, start: int, update: Update) -> Done:
    done = run_once(job, start, update)
    if done.trajectory.status != DIVERGED or job.options.optimizer is not None or done.improper:
        return done
    if _time_is_up(job):
        return done
    untouched.restore()
    again = run_once(job, start, update, retry=True)
    smaller = "step size and initial scale" if again.preconditioned else "step size"
    found = f"{done.trajectory.note}; tried again with {RETRY_STEP:g} times the {smaller}"
    return replace(again, notes=(found, *again.notes), evaluations=done.evaluations + again.evaluations)


def run_once(job: Job, start: int, update: Update, *, retry: bool = False) -> Done:
    """One run from one start; more carefully as a retry. Call it in the fit's world, behind the guide's first run."""
    seed = job.settings["seed"]
    began = time.perf_counter()
    look = _look(job, start, retry)
    looked = time.perf_counter() - began
    if start and look.coordinates is None:
        _jitter(child_seed(seed, f"start {start}"))
    if start:
        pyro.set_rng_seed(child_seed(seed, f"fit {start}"))
    options = replace(job.options, coordinates=look.coordinates)
    search = job.settings["step_size"] == AUTO
    factor = (FIRST_FACTOR if job.averaged else NETWORK_FACTOR) if search else 1.0
    if retry:
        options = replace(options, step_size=options.step_size * RETRY_STEP)
    steps = job.make_steps(job.step_program or job.program, job.resolved.guide, options)
    plan = Plan(
        max_steps=min(job.max_steps, ENDLESS_STEPS) if look.endless else job.max_steps,
        max_seconds=job.settings["max_seconds"],
        search=search,
        first_factor=factor,
        averaged=job.averaged,
        num_latents=max(1, job.program.num_dims),
        # What a compiler takes is saved by the next fit, and counts for none.
        started=job.started + sum(steps.seconds.values()),
        seed=child_seed(seed, "comparison"),
    )
    evaluate = None
    if job.held_out:
        evaluate = _evaluate(job)
        _try(evaluate)
    trajectory = optimise(steps, plan, update, evaluate, job.epochs)
    if look.endless:
        names = ", ".join(f"'{name}'" for name in look.endless)
        note = (
            f"the posterior has no scale along {names}: its density does not fall off there, so that it is improper, "
            "or flat over all that can be reached. Give these latents a proper prior"
        )
        trajectory = replace(trajectory, status=DIVERGED, note="; ".join(p for p in (note, trajectory.note) if p))
    notes = tuple(note for note in (look.note, _suggestion(job, look, trajectory), _unscaled(job)) if note)
    made = len(trajectory.losses) + trajectory.trial_steps
    return Done(
        steps=steps,
        trajectory=trajectory,
        look_seconds=looked,
        preconditioned=look.coordinates is not None,
        notes=notes,
        improper=bool(look.endless),
        evaluations=look.evaluations + made * steps.num_particles,
    )


def _suggestion(job: Job, look: Preconditioning, trajectory: Trajectory) -> str:
    """Where nothing took care of the data's scale, and the fit did not arrive: columns to standardise."""
    if look.coordinates is not None or trajectory.status == CONVERGED:
        return ""
    for name, value in job.program.arguments.tensors().items():
        if value.is_floating_point() and value.dim() == 2 and len(value) > 1:
            scale = value.std(dim=0)
            scale = scale[scale > 0.0]
            if len(scale) and float(scale.max() / scale.min()) > UNEVEN:
                return (
                    f"the columns of argument '{name}' have standard deviations from {float(scale.min()):.3g} to "
                    f"{float(scale.max()):.3g}: standardise them, or use an automatic guide, which is preconditioned"
                )
    return ""


def _unscaled(job: Job) -> str:
    """How batches of a loader are scaled to all rows, where neither model nor fit does it."""
    if job.options.batches is None or job.epochs is not None:
        return ""
    arguments = job.program.arguments
    with forked_random(job.program.device), torch.no_grad():
        trace = poutine.trace(job.program.model).get_trace(*arguments.args, **arguments.kwargs)
    scales = [torch.as_tensor(node["scale"]) for node in nodes_of(trace).values() if node.get("is_observed")]
    if any(bool((scale != 1.0).any()) for scale in scales):
        return ""
    return (
        "each batch stands for itself alone: the ELBO is one of a batch, and the prior of shared latents counts in "
        "every one. Give max_epochs to train by epochs, with batches scaled to all rows"
    )


def _evaluate(job: Job) -> Evaluate:
    return evaluator(job.program, job.resolved.guide, job.held_out, child_seed(job.settings["seed"], "held out"))


def _try(evaluate: Evaluate) -> None:
    try:
        evaluate()
    except NOT_VECTORISABLE as error:
        raise DataError(
            f"held_out: the model fails on these data: {first_line(error)}. Give them as `data` are given, with rows "
            "of their own; latents of the rows need an amortised guide."
        ) from error


def _look(job: Job, start: int, retry: bool) -> Preconditioning:
    if not job.settings["precondition"] or job.options.optimizer is not None:
        return Preconditioning()
    return precondition(
        job.resolved.guide,
        job.program,
        child_seed(job.settings["seed"], f"look {start}"),
        init_scale=job.settings["init_scale"],
        shrink=RETRY_SCALE if retry else 1.0,
        from_prior=start > 0,
        initial=job.initial,
        target=job.target,
    )


def _jitter(seed: int) -> None:
    holders = [holder for _, holder in pyro.get_param_store().named_parameters()]
    if sum(holder.numel() for holder in holders) > LARGEST_JITTERED:
        return
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for holder in holders:
            noise = torch.randn(holder.shape, generator=generator, dtype=torch.float64)
            holder.add_(JITTER * noise.to(holder))


def _described(job: Job, done: Done) -> _Run:
    elbo, parameters = math.nan, Parameters.from_store()
    if done.trajectory.status == DIVERGED:
        pass  # it may be nowhere where there is an ELBO
    elif job.epochs is not None:
        elbo = job.epochs.look().objective * job.epochs.feed.num_rows
    elif job.held_out:
        elbo = -float(np.mean(_evaluate(job)()))
    elif done.steps.adjustable:
        losses = done.steps.maker.losses_at(
            done.steps.maker.position(), NUM_FINAL, child_seed(job.settings["seed"], "comparison")
        )
        elbo = -float(np.mean(losses))
    elif len(done.trajectory.losses):
        elbo = -float(np.mean(done.trajectory.losses[-NUM_FINAL:]))
    elbo = elbo if math.isfinite(elbo) else -math.inf
    return _Run(done, parameters, elbo, _moments(job))


def _moments(job: Job) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Mean and standard deviation of each latent's draws."""
    draws, _ = latent_draws(job.program, job.resolved.guide, NUM_COMPARED)
    arrays = {site.name: draws[site.name].double().cpu().numpy() for site in job.program.sites.latent}
    return {name: (value.mean(axis=0), value.std(axis=0)) for name, value in arrays.items()}


def _compared(run: _Run, best: _Run) -> Start:
    away, latent = 0.0, ""
    for name, (mean, sd) in best.moments.items():
        other = run.moments[name][0]
        spread = np.asarray(sd > POINT * np.maximum(np.abs(mean), 1.0))  # a point has no sds to measure in
        distance = float(np.max(np.abs(other - mean) / np.where(spread, sd, np.inf), initial=0.0))
        if run is not best and distance > away:
            away, latent = distance, name
    trajectory = run.done.trajectory
    return Start(run.elbo, trajectory.status, len(trajectory.losses), away, latent)


def _news(starts: tuple[Start, ...]) -> tuple[str, ...]:
    arrived = [start for start in starts if start.status != DIVERGED]
    furthest = max(arrived, key=lambda start: start.away, default=None)
    if furthest is None or furthest.away < 0.5:
        return ()
    best = max(start.elbo for start in starts)
    unsettled = "" if furthest.status == CONVERGED else f", or that start had not arrived ({furthest.status})"
    return (
        f"{len(starts)} starts ended up to {furthest.away:.2g} posterior sds apart (in '{furthest.latent}'; ELBO "
        f"{furthest.elbo:,.2f} against {best:,.2f} nats): the posterior may have several modes{unsettled}",
    )
