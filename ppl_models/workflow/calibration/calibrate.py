"""`ppl.calibrate`: refit data of known origin, and see where the truth stands among the draws."""

import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from ppl_models.diagnostics.calibration.evidence import FALSE_ALARM_RATE
from ppl_models.errors import OptionError
from ppl_models.inference import Fit
from ppl_models.options import check_choice, check_count, check_positive
from ppl_models.progress import progress_bar
from ppl_models.seeds import check_seed
from ppl_models.versions import versions
from ppl_models.workflow.calibration.key import made_by
from ppl_models.workflow.calibration.parallel import run_blocks
from ppl_models.workflow.calibration.planning import plan_of, truths_of
from ppl_models.workflow.calibration.quantities import Quantity, data_quantities
from ppl_models.workflow.calibration.refits import Block, Plan, Task, shapes_of
from ppl_models.workflow.calibration.result import Calibration
from ppl_models.workflow.calibration.simulate import BLOCK, Simulate, Simulation, Truths, check_simulated
from ppl_models.workflow.calibration.storage import Store
from ppl_models.workflow.calibration.tables import judge, ranks_dataset

KINDS = ("prior", "posterior", "symmetry")


def calibrate(
    fit: Fit,
    *,
    kind: str = "prior",
    num_simulations: int = 500,
    num_draws: int = 199,
    quantities: Mapping[str, Quantity] | None = None,
    simulate: Simulate | None = None,
    folder: str | Path | None = None,
    amortised: bool = False,
    n_jobs: int | None = None,
    max_seconds: float = 3_600.0,
    false_alarm_rate: float = FALSE_ALARM_RATE,
    seed: int = 0,
    progress: bool = False,
) -> Calibration:
    """Simulate data from known latents, refit them as the fit was made, and rank the truth among the draws.

    Were each refit the exact posterior, the ranks would be uniform. Ties are broken at random. Refits run in worker
    processes; inside `joblib.parallel_config(...)` on the backend chosen there (Dask, Ray, ...). A backend of threads
    makes one after another, since Pyro's state is global.

    Args:
        fit: a fit; its model, data and options are refitted, its own draws matter for `kind="posterior"` alone.
        kind: "prior": latents from the prior, a refit of the data they make (Talts et al.). "posterior": latents from
            the fit, and a refit of its data together with the data these make (Säilynoja et al.), for what matters
            here and not all over the prior; for automatic families. "symmetry": latents from the prior, but only
            whether the ranks are symmetric (Yao et al.): too narrow or too wide draws pass.
        num_simulations: data sets; an sd that is off by a fifth takes some 300.
        num_draws: posterior draws that a truth is ranked among.
        quantities: further scalars to rank, by name: functions of draws of the latents, by name and of shape (draw,
            *event), and of the data, by argument, that return shape (draw,). Every scalar latent, the log joint density
            and the log likelihood are always ranked; for "symmetry", the latents alone.
        simulate: makes data, where the model's observed sites do not take its arguments as they are: called with one
            draw of the latents (arrays by name) and a seed; returns arguments of the model (those that change, or a
            tuple of all for a fit of a tuple). Not for "posterior".
        folder: where finished blocks are kept; the same call goes on from there, also with more simulations.
        amortised: the guide is a function of the data: its parameters are held, and nothing is refitted.
        n_jobs: worker processes, as joblib's; None takes what joblib's context says, else all cores (for an amortised
            guide, this process). The ranks do not depend on it.
        max_seconds: no refit is begun after this time; the result says that it is short.
        false_alarm_rate: probability, at most, that exact posteriors fail, over all checks and quantities.
        seed: seed of everything random.
        progress: show one bar.

    Returns:
        The calibration: a table with a row for each quantity, the checks and the ranks.

    Raises:
        OptionError, UnknownNameError: an option is out of its range.
        ModelError, DataError: the model cannot make its own data (an improper prior, a factor, a learnt parameter, an
            observed value that is no argument); the message names the site.
        FileError: the folder holds another calibration, or a damaged file.

    Talts et al. (2018), Validating Bayesian inference algorithms with simulation-based calibration; Modrák et al.
    (2023), Simulation-based calibration checking for Bayesian computation: the choice of test quantities; Säilynoja,
    Schmitt, Bürkner and Vehtari (2025), Posterior SBC; Yao et al. (2018), Yes, but did it work?
    """
    started = time.perf_counter()
    deadline = time.time() + check_positive("max_seconds", max_seconds)
    check_choice("kind of calibration", kind, KINDS)
    check_count("num_simulations", num_simulations)
    check_count("num_draws", num_draws, least=19)
    if not 0.0 < check_positive("false_alarm_rate", false_alarm_rate) < 1.0:
        raise OptionError(f"false_alarm_rate: found {false_alarm_rate!r}, wanted a number between 0 and 1.")
    fit = getattr(fit, "plain", fit)  # of a fit chosen by evidence, the guide chosen
    plan = plan_of(fit, kind, num_draws, quantities, simulate, amortised, check_seed(seed))
    truths = truths_of(fit, seed, -(-num_simulations // BLOCK)) if kind == "posterior" else None
    first = _probe(plan, truths)
    options = {"kind": kind, "num_draws": num_draws, "amortised": amortised, "seed": seed}
    store = None
    if folder is not None:
        target = plan.simulator.target_with(first.arguments)
        store = Store(folder, made_by(fit, target, first, plan.quantities, options))
    jobs = 1 if amortised and n_jobs is None else n_jobs
    blocks = _run(plan, truths, num_simulations, store, jobs, deadline, show=progress)
    return _result(
        fit,
        plan,
        blocks,
        kind,
        num_simulations,
        {**options, "false_alarm_rate": false_alarm_rate, "guide": fit.guide_name, "versions": versions()},
        started,
    )


def _probe(plan: Plan, truths: list[Truths] | None) -> Simulation:
    """Make the first simulation here, where what is wrong with it can be said."""
    first = check_simulated(plan.simulator, None if truths is None else truths[0])
    if plan.quantities is not None:
        pair = {name: np.stack([value, value]) for name, value in first.truth.items()}
        data_quantities(plan.simulator.target_with(first.arguments), pair, plan.quantities)
    return first


def _run(
    plan: Plan,
    truths: list[Truths] | None,
    num_simulations: int,
    store: Store | None,
    n_jobs: int | None,
    deadline: float,
    *,
    show: bool,
) -> list[Block]:
    """All blocks in order, those stored and those made now."""
    num_blocks = -(-num_simulations // BLOCK)
    stored = {i: block for i in range(num_blocks) if store is not None and (block := store.read(i)) is not None}
    tasks = []
    for index in range(num_blocks):
        start = len(stored[index].statuses) if index in stored else 0
        stop = min(BLOCK, num_simulations - index * BLOCK)
        if start < stop:
            tasks.append(Task(index, start, stop, truths[index] if truths is not None else None, deadline))
    done = sum(min(len(block.statuses), num_simulations - index * BLOCK) for index, block in stored.items())
    with progress_bar("calibrate", num_simulations, show=show) as update:
        update(done, "")
        if tasks:
            with closing(run_blocks(plan, tasks, n_jobs)) as made:
                for block in made:
                    done += len(block.statuses)
                    update(done, "")
                    if not block.statuses:
                        continue
                    stored[block.index] = whole = (
                        stored[block.index].followed_by(block) if block.index in stored else block
                    )
                    if store is not None:
                        store.write(whole)
    return [stored[index] for index in sorted(stored)]


def _result(
    fit: Fit,
    plan: Plan,
    blocks: list[Block],
    kind: str,
    num_simulations: int,
    config: Mapping[str, Any],
    started: float,
) -> Calibration:
    def first(values: Any, block: Block) -> Any:
        return values[: num_simulations - block.index * BLOCK]

    statuses = [status for block in blocks for status in first(block.statuses, block)]
    notes = tuple(note for block in blocks for note in first(block.notes, block))
    ranks = {
        name: np.concatenate([np.empty((0, *shape), int), *(first(block.ranks[name], block) for block in blocks)])
        for name, shape in shapes_of(plan).items()
    }
    labels = fit.labels.of_program(fit.program)
    dataset = ranks_dataset(ranks, statuses, labels.dims, labels.coords)
    table, coverage, checks = judge(
        dataset,
        notes,
        kind=kind,
        num_draws=plan.num_draws,
        false_alarm_rate=config["false_alarm_rate"],
    )
    return Calibration(
        kind=kind,
        table=table,
        coverage=coverage,
        ranks=dataset,
        checks=checks,
        num_simulations=num_simulations,
        num_draws=plan.num_draws,
        status="complete" if len(statuses) == num_simulations else "out_of_time",
        notes=notes,
        config=config,
        seconds=time.perf_counter() - started,
        refit_seconds=float(sum(first(block.seconds, block).sum() for block in blocks)),
    )
