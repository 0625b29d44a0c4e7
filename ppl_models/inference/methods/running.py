"""Run a method on a program, and give what it found to the guide."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from pyro.infer.autoguide import AutoGuide

from ppl_models.engine import Target
from ppl_models.errors import ModelError, first_line
from ppl_models.inference.methods.method import Found, Method, Work
from ppl_models.inference.methods.writing import write
from ppl_models.inference.preconditioning.families import start_of
from ppl_models.inference.preconditioning.initial import Initial
from ppl_models.inference.preconditioning.starts import finite_prior_draw, starting_points
from ppl_models.program import Parameters, Program, isolated
from ppl_models.program.batching import NOT_VECTORISABLE
from ppl_models.progress import Update


def run_method(
    method: Method,
    program: Program,
    options: Mapping[str, Any],
    *,
    guide: Callable[..., Any] | None,
    initial: Initial | None,
    seed: int,
    max_steps: int | None,
    deadline: float,
    update: Update,
    target: Target | None = None,
) -> tuple[Found, Target]:
    """Run a method from the guide's own start, or the user's, and write what it found into the guide's parameters.

    Call it in the fit's world, behind the guide's first run.

    Args:
        method: the method.
        program: the model with its data, whole.
        options: the method's options, checked.
        guide: takes what was found; None writes it nowhere.
        initial: where the user wants it to begin; None for the guide's own start.
        seed: of everything random.
        max_steps: most iterations; None leaves it to the method.
        deadline: `time.perf_counter()` at which it should end.
        update: shows progress.
        target: the program's log density, where it is there already.

    Raises:
        ModelError: the log density is finite at none of the points tried.
    """
    world = isolated(
        seed=seed, dtype=program.dtype, parameters=Parameters.from_store(), full_data=True, device=program.device
    )
    own = start_of(guide, program) if isinstance(guide, AutoGuide) else None
    with world:
        target = target or Target(program)
        begin = np.zeros(program.num_dims) if own is None else own
        begin = begin if initial is None else initial.point(program, begin)
        try:
            points, note = starting_points(target, begin, 0, from_prior=False)
        except NOT_VECTORISABLE as error:
            raise ModelError(f"the model fails at a draw of its own prior: {first_line(error)}") from None
        if not points:
            raise ModelError(f"{note}. Check the data, the priors and the likelihood's support, or give init=.")
        work = Work(
            target=target,
            start=points[0],
            begin=initial.normal if initial is not None else None,
            prior_draw=lambda: finite_prior_draw(target),
            seed=seed,
            max_steps=max_steps,
            deadline=deadline,
            options=options,
            update=update,
        )
        found = method.run(work)
    if guide is not None:
        write(guide, program, found.approximation)
    return replace(found, note="; ".join(part for part in (note, found.note) if part)), target
