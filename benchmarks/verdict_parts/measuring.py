"""The loop over cases: a few workers, each with one thread and one problem at a time; what hangs is ended."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from race.processes import PeerError, Worker

from benchmarks.verdict_parts.cases import Case
from benchmarks.verdict_parts.store import Row, Store

MODULE = "benchmarks.verdict_parts.judging"
ROOT = Path(__file__).parents[2]
CASE_SECONDS, REFERENCE_SECONDS = 600.0, 1_800.0


@dataclass(frozen=True)
class Plan:
    """What is common to all cases.

    Attributes:
        folder: posteriordb's; None without it.
        references: where NUTS runs are kept.
        store: where rows go.
        say: is told how it goes.
        workers: processes at a time.
    """

    folder: Path | None
    references: Path
    store: Store
    say: Callable[[str], None]
    workers: int = 2


def run(plan: Plan, work: Sequence[tuple[str, list[Case]]]) -> None:
    """Judge every case that the store does not hold."""
    left = [(problem, [case for case in of if not plan.store.has(case.key)]) for problem, of in work]
    left = [(problem, of) for problem, of in left if of]
    with ThreadPoolExecutor(plan.workers) as pool:
        for _ in pool.map(lambda item: _of_problem(plan, *item), left):
            pass
    plan.store.write()


def _of_problem(plan: Plan, problem: str, cases: Sequence[Case]) -> None:
    where = {"folder": str(plan.folder or ""), "references": str(plan.references)}
    worker = None
    try:
        for number, case in enumerate(cases, start=1):
            try:
                worker = worker or _started(problem, where)
                worker.prepare("case", problem=problem, guide=case.guide, fault=case.fault, **where)
                row = worker.time(case.seed)
                row.pop("memory", None)
            except PeerError as error:
                row = {"failed": str(error)}
            plan.store.add({**case.key, **row})
            plan.say(f"{problem} {number}/{len(cases)} {case.guide} {case.fault}: {_brief(row)}")
            if worker is not None and worker.process.poll() is not None:
                worker.close()
                worker = None
    finally:
        if worker is not None:
            worker.close()


def _started(problem: str, where: dict[str, Any]) -> Worker:
    worker = Worker(MODULE, threads=1, variables={"PYTHONPATH": str(ROOT)}, patience=REFERENCE_SECONDS)
    try:
        worker.prepare("prepare", problem=problem, **where)
    except PeerError:
        worker.close()
        raise
    worker.patience = CASE_SECONDS
    return worker


def _brief(row: Row) -> str:
    if "failed" in row:
        return f"failed, {row['failed']}"
    return f"{row['class']}: {row['verdict']}, with a baseline {row['baseline_verdict']}"
