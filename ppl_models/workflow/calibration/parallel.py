"""Blocks of refits on joblib's backend: the one that the user chose, or worker processes."""

import uuid
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from typing import Any

import cloudpickle
import joblib
from joblib.parallel import get_active_backend

from ppl_models.errors import ModelError, OptionError, first_line
from ppl_models.workflow.calibration.refits import Bench, Block, Plan, Task, one_thread, run_in_worker


def run_blocks(plan: Plan, tasks: Sequence[Task], n_jobs: int | None) -> Generator[Block]:
    """Make blocks, and give each as soon as it is there.

    Args:
        plan: what is made.
        tasks: the blocks wanted; those that the deadline leaves undone come back short or empty.
        n_jobs: as joblib's; None takes that of joblib's own context, or all cores where there is none.

    Raises:
        ModelError: a worker process died, or cannot prepare the refits.
    """
    jobs = _num_jobs(n_jobs)
    if jobs == 1 or len(tasks) == 1:
        with one_thread():
            bench = Bench(plan)
            for task in tasks:
                yield bench.block(task)
        return
    try:
        packed = cloudpickle.dumps(plan)
    except Exception as error:
        raise ModelError(f"calibration: the model cannot be sent to other processes: {error}. Use n_jobs=1.") from error
    try:
        for found in _blocks(packed, tasks, jobs):
            if isinstance(found, str):
                raise ModelError(f"calibration: a worker cannot prepare the refits: {found}")
            yield found
    except BrokenExecutor as error:
        raise ModelError(
            f"calibration: a worker process died, or could not load the model ({first_line(error)}). With folder= what "
            "was finished is kept, and the same call goes on. Use fewer n_jobs where memory is short; n_jobs=1 has no "
            "workers."
        ) from error


def _blocks(packed: bytes, tasks: Sequence[Task], jobs: int | None) -> Iterator[Block | str]:
    token = uuid.uuid4().hex
    backend: Any = get_active_backend()[0]
    calls = [joblib.delayed(run_in_worker)(token, packed, task) for task in tasks]
    run: Any = joblib.Parallel  # its annotations say text where it takes numbers
    if backend.supports_return_generator:
        yield from run(n_jobs=jobs, return_as="generator_unordered", batch_size=1)(calls)
        return
    # Some backends give their results all at once: a round at a time, so that what is finished can be stored.
    step = max(1, joblib.effective_n_jobs(jobs if jobs is not None else backend.default_n_jobs))
    for start in range(0, len(calls), step):
        yield from run(n_jobs=jobs, batch_size=1)(calls[start : start + step])


def _num_jobs(n_jobs: int | None) -> int | None:
    if n_jobs is not None and (isinstance(n_jobs, bool) or not isinstance(n_jobs, int) or n_jobs == 0):
        raise OptionError(f"n_jobs: found {n_jobs!r}, wanted a whole number (-1: all cores), or None.")
    active: Any = get_active_backend()
    backend, configured = active
    if getattr(backend, "supports_sharedmem", False):
        return 1  # threads share Pyro's global state
    if n_jobs is None and configured is None and backend.default_n_jobs == 1:
        n_jobs = -1  # nobody has said anything: joblib itself would take one
    if n_jobs is not None and backend.effective_n_jobs(n_jobs) == 1:
        return 1
    return n_jobs
