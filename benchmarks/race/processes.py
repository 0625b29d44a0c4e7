"""Workers as seen from the outside: start, ask, give up on; and rounds in which they take turns."""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from race.settings import Settings

FOLDER = Path(__file__).parents[1]


class PeerError(Exception):
    """A peer could not do what it was asked; the message is shown in the table."""


def environment(threads: int) -> dict[str, str]:
    """Variables that hold every library to a number of threads."""
    count = str(threads)
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "NPROC")
    flags = f"--xla_cpu_multi_thread_eigen={'false' if threads == 1 else 'true'}"
    return {**os.environ, **dict.fromkeys(names, count), "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}


class Worker:
    """One peer in a process of its own.

    Args:
        peer: name of a module in `race.peers`, or the whole name of another.
        threads: threads that its libraries may use.
        variables: more environment variables.
        patience: seconds to wait for a reply.
    """

    def __init__(
        self, peer: str, threads: int = 1, variables: Mapping[str, str] | None = None, patience: float = 300.0
    ):
        self.peer, self.patience = peer, patience
        self.log = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 - `close` closes it
        self.process = subprocess.Popen(
            [sys.executable, "-m", "race.worker", peer],
            cwd=FOLDER,
            env={**environment(threads), **(variables or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            start_new_session=True,
        )

    def prepare(self, job: str, **task: Any) -> dict[str, Any]:
        """Make ready what `time` will run."""
        return self._ask({"job": job, "task": task})

    def time(self, seed: int) -> dict[str, Any]:
        """Run one block of what was prepared; returns what it measured."""
        return self._ask({"seed": seed})

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise PeerError(self._last_words()) from None
        ready, _, _ = select.select([self.process.stdout], [], [], self.patience)
        if not ready:
            self.close()
            raise PeerError(f"no reply within {self.patience:.0f} s")
        line = self.process.stdout.readline()
        if not line:
            raise PeerError(self._last_words())
        reply = json.loads(line)
        if "error" in reply:
            raise PeerError(reply["error"])
        return reply

    def _last_words(self) -> str:
        self.process.wait()
        self.log.seek(0)
        lines = self.log.read().strip().splitlines() or ["it said nothing"]
        return f"the process ended with code {self.process.returncode}: {lines[-1]}"

    def close(self) -> None:
        """End the process and what it started."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()
        self.log.close()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class Crew:
    """Workers by label, started when they are needed and again when one has died."""

    def __init__(self):
        self.workers: dict[str, Worker] = {}

    def worker(self, label: str, peer: str, **options: Any) -> Worker:
        """The living worker with this label."""
        if label not in self.workers or self.workers[label].process.poll() is not None:
            if label in self.workers:
                self.workers[label].close()
            self.workers[label] = Worker(peer, **options)
        return self.workers[label]

    def __enter__(self) -> "Crew":
        return self

    def __exit__(self, *exception: object) -> None:
        with ExitStack() as stack:
            for worker in self.workers.values():
                stack.callback(worker.close)


@dataclass
class Entrant:
    """One competitor for one piece of work.

    Attributes:
        label: its name in tables.
        peer: name of its module.
        job: name of the job there.
        task: arguments of the job.
        threads: threads that its libraries may use.
    """

    label: str
    peer: str
    job: str
    task: dict[str, Any] = field(default_factory=dict)
    threads: int = 1


Row = dict[str, Any]
"""{"work": {column: value}, "peer": label, "values": {figure: [one per round]}, "notes": [text], "error": text}."""


def new_row(work: dict[str, Any], peer: str) -> Row:
    """A row without measurements."""
    return {"work": work, "peer": peer, "values": {}, "notes": [], "error": ""}


def take_turns(crew: Crew, work: dict[str, Any], entrants: list[Entrant], settings: Settings) -> list[Row]:
    """Prepare every entrant, then let them take turns, one block each in every round.

    Args:
        crew: holds the living workers.
        work: what is raced over, for the table: column to value.
        entrants: who takes part.
        settings: how many rounds, and who is told what is going on.
    """
    rows = [new_row(work, entrant.label) for entrant in entrants]

    def attempt(row: Row, act: Callable[[Worker], dict[str, Any]], entrant: Entrant) -> None:
        if row["error"]:
            return
        try:
            record(row, act(crew.worker(entrant.label, entrant.peer, threads=entrant.threads)))
        except PeerError as error:
            row["error"] = str(error)

    for row, entrant in zip(rows, entrants, strict=True):
        settings.say(f"{describe(work)}: {entrant.label} prepares")
        attempt(row, lambda worker, e=entrant: worker.prepare(e.job, **e.task), entrant)
    for index in range(settings.rounds):
        for row, entrant in zip(rows, entrants, strict=True):
            settings.say(f"{describe(work)}: round {index + 1} of {settings.rounds}, {entrant.label}")
            attempt(row, lambda worker, seed=index + 1: worker.time(seed), entrant)
    return rows


def record(row: Row, reply: Mapping[str, Any]) -> None:
    """Add what one block measured to a row; equal notes are kept once."""
    for name, value in reply.items():
        if name == "note":
            if value and value not in row["notes"]:
                row["notes"].append(value)
        elif name != "memory":
            row["values"].setdefault(name, []).append(value)


def describe(work: Mapping[str, Any]) -> str:
    """A piece of work in few words."""
    return " ".join(f"{value:,}" if isinstance(value, int) else str(value) for value in work.values())
