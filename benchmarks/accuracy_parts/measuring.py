"""The loop over problems, entrants and seeds: one process for each run, one row for each."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from race.processes import PeerError, Worker

from benchmarks import posteriordb
from benchmarks.accuracy_parts import entrants
from benchmarks.accuracy_parts.entrants import Entrant
from benchmarks.tuning_parts.rules import Row
from benchmarks.tuning_parts.settings import Settings
from benchmarks.tuning_parts.store import Store

PATIENCE = 1_800.0
"""Seconds after which a run is given up."""
ROOT = Path(__file__).parents[2]
CACHES = ("PPL_MODELS_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR")
MISSING = "ModuleNotFoundError"
NOT_THERE = "no such method"


class NothingToSayError(Exception):
    """No row comes of a run: a peer is not installed, or the library has no such method."""


def run(settings: Settings, sides: Sequence[str], seeds: int) -> None:
    """Measure what was asked for, and say what is not there."""
    absent: dict[str, str] = {}
    for problem in settings.posteriors():
        for entrant in chosen(settings, sides):
            if entrant.label in absent or (entrant.problems and problem.name not in entrant.problems):
                continue
            for seed in range(1, 1 + seeds):
                key = {"problem": problem.name, "guide": entrant.label, "seed": seed}
                _forget_failure(settings.store, entrant.side, key)
                try:
                    settings.store.measure(
                        entrant.side,
                        key,
                        lambda e=entrant, p=problem, s=seed: measured(e, p, str(settings.folder), s),
                        settings.say,
                    )
                except NothingToSayError as reason:
                    absent[entrant.label] = str(reason)
                    settings.say(f"{entrant.label}: left out, {reason}")
                    break


def chosen(settings: Settings, sides: Sequence[str]) -> list[Entrant]:
    """The entrants that were asked for."""
    every = [entrant for entrant in (*entrants.ours(), *entrants.peers()) if entrant.side in sides]
    return [entrant for entrant in every if not settings.guides or entrant.label in settings.guides]


def measured(entrant: Entrant, problem: posteriordb.Problem, folder: str, seed: int) -> Row:
    """The row of one run; a run that fails has a row that says why.

    Raises:
        NothingToSayError: the peer is not installed, or the library has no such method.
    """
    task = {"problem": problem.name, "folder": folder, **entrant.options}
    module = f"{entrants.PACKAGE}.{entrant.module}"
    with tempfile.TemporaryDirectory(prefix="ppl-models-cache-") as caches:
        variables = {"PYTHONPATH": str(ROOT), **{name: str(Path(caches) / name) for name in CACHES}}
        try:
            with Worker(module, threads=entrant.threads, variables=variables, patience=PATIENCE) as worker:
                worker.prepare(entrant.job, **task)
                row = worker.time(seed)
        except PeerError as error:
            if str(error).startswith(MISSING):
                raise NothingToSayError(str(error).removeprefix(f"{MISSING}: ")) from None
            row = {"status": "failed", "note": str(error), "accurate": False}
    if NOT_THERE in str(row.get("status")):
        raise NothingToSayError(row["status"])
    row.pop("memory", None)
    return {**row, "multimodal": problem.multimodal, "load": os.getloadavg()[0]}


def _forget_failure(store: Store, side: str, key: Row) -> None:
    """A run that failed before is tried again, also where rows are kept."""
    if (old := store.kept(side, key)) is not None and old["status"] == "failed":
        store.rows(side).remove(old)


def all_rows(store: Store) -> list[Row]:
    """Rows of both sides, each with its side."""
    return [{**row, "side": side} for side in (entrants.OURS, entrants.PEERS) for row in store.rows(side)]


def labels_of(rows: Sequence[Row]) -> Iterator[str]:
    """The labels that have rows, ours first, each side in its own order."""
    known = [entrant.label for entrant in (*entrants.ours(), *entrants.peers())]
    found = {row["guide"] for row in rows}
    yield from (label for label in known if label in found)
