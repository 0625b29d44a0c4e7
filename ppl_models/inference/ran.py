"""The two ways to fit a guide, SVI and methods beside it, and what either leaves behind."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from ppl_models.engine import Target
from ppl_models.inference.collapse import judge_collapse
from ppl_models.inference.course import Stage
from ppl_models.inference.guides import ResolvedGuide
from ppl_models.inference.methods import Method
from ppl_models.inference.methods.running import run_method
from ppl_models.inference.preconditioning.initial import Initial
from ppl_models.inference.runs import AUTO, Done, Job, Start, run_starts
from ppl_models.program import Program
from ppl_models.progress import progress_bar
from ppl_models.seeds import child_seed


@dataclass(frozen=True)
class Ran:
    """What SVI or another method left behind, beside the parameters in the store."""

    losses: np.ndarray
    status: str
    constant_phase: tuple[int, int]
    note: str
    backend: str
    timing: Mapping[str, float]
    config: Mapping[str, Any]
    evaluations: int
    backend_note: str = ""
    stages: tuple[Stage, ...] = ()
    starts: tuple[Start, ...] = ()
    evidence: Mapping[str, Any] = field(default_factory=dict)
    history: pd.DataFrame | None = None


def run_svi(job: Job, *, progress: bool) -> Ran:
    """Fit by SVI. Call it in the fit's world, behind the guide's first run."""
    total = job.max_steps if job.epochs is None else job.epochs.max_epochs
    with progress_bar(f"fit {job.resolved.name}", total, show=progress) as update:
        return ran_of(job, run_starts(job, update))


def ran_of(job: Job, done: Done) -> Ran:
    """What the runs of a job left behind."""
    steps, trajectory = done.steps, done.trajectory
    status, collapse = trajectory.status, ""
    if job.epochs is not None:
        looked_at = sum(count for _, count in job.epochs.look.chunks)
        status, collapse = judge_collapse(status, trajectory.figures, looked_at)
    return Ran(
        losses=trajectory.losses,
        status=status,
        constant_phase=trajectory.constant,
        note="; ".join(part for part in (*done.notes, trajectory.note, collapse) if part),
        backend=steps.backend,
        timing={"look": done.look_seconds, **steps.seconds, "steps": trajectory.seconds},
        config={
            "num_particles": steps.num_particles,
            "elbo": steps.elbo,
            "estimator": job.options.estimator.name,
            "estimator_options": job.options.estimator.options,
            "optimizer": steps.optimizer,
            "preconditioned": done.preconditioned,
            "trial_steps": trajectory.trial_steps,
        },
        evaluations=done.evaluations,
        backend_note=steps.note,
        stages=trajectory.stages,
        starts=done.starts,
        history=trajectory.history,
    )


def run_with(
    method: Method,
    program: Program,
    resolved: ResolvedGuide,
    initial: Initial | None,
    settings: Mapping[str, Any],
    deadline: float,
    *,
    progress: bool,
    target: Target | None = None,
) -> Ran:
    """Fit by another method. Call it in the fit's world, behind the guide's first run."""
    began = time.perf_counter()
    max_steps = None if settings["max_steps"] == AUTO else settings["max_steps"]
    with progress_bar(f"fit {method.name}", max_steps, show=progress) as update:
        found, target = run_method(
            method,
            program,
            settings["method_options"],
            guide=resolved.guide,
            initial=initial,
            seed=child_seed(settings["seed"], method.name),
            max_steps=max_steps,
            deadline=deadline,
            update=update,
            target=target,
        )
    arrival = {} if found.arrival is None else {"arrival": asdict(found.arrival)}
    return Ran(
        losses=np.asarray(found.losses, dtype=float),
        status=found.status,
        constant_phase=(0, len(found.losses)),
        note=found.note,
        backend=target.backend,
        timing={"steps": time.perf_counter() - began},
        config={"num_particles": 0, "elbo": "", "optimizer": method.name, "preconditioned": False, "trial_steps": 0},
        evaluations=target.evaluations,
        evidence={**found.evidence, **arrival},
    )
