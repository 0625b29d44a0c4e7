"""The file of results: written now and then and at the end, one row a line."""

import json
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.race.results import circumstances
from ppl_models.files import write_whole

Row = dict[str, Any]
KEYS = ("problem", "guide", "fault", "seed")
EVERY = 20.0
"""Seconds between two writings."""


class Store:
    """Rows known by what was judged; two threads may add to it.

    Args:
        path: the JSON file.
        command: how the benchmark was started.
        keep: whether the rows that are there stay; rows of cases that failed do not.
    """

    def __init__(self, path: Path, command: str, *, keep: bool = False):
        self.path, self.command = path, command
        self.lock, self.written = threading.Lock(), time.monotonic()
        self.changed = False
        old = read(path) if keep else []
        self.known = {_key(row): row for row in old}

    @property
    def rows(self) -> list[Row]:
        """All rows, in the order of their keys."""
        return [self.known[key] for key in sorted(self.known)]

    def has(self, key: Mapping[str, Any]) -> bool:
        """Whether there is a row of that key that did not fail."""
        return _key(key) in self.known and "failed" not in self.known[_key(key)]

    def add(self, row: Row) -> None:
        """Keep a row, in place of an old one."""
        with self.lock:
            self.known[_key(row)] = row
            self.changed = True
            if time.monotonic() - self.written > EVERY:
                self._write()

    def write(self) -> None:
        """Write all rows, where there is anything new."""
        with self.lock:
            if self.changed:
                self._write()

    def _write(self) -> None:
        head = json.dumps(circumstances(self.command, 1), indent=1)
        lines = ",\n".join(json.dumps(row, separators=(",", ":")) for row in self.rows)
        text = f'{head[:-2]},\n "rows": [\n{lines}\n]}}\n'
        write_whole(self.path, lambda path: path.write_text(text))
        self.written, self.changed = time.monotonic(), False


def read(path: Path) -> list[Row]:
    """The rows of a file; none where there is no such file."""
    try:
        return json.loads(path.read_text())["rows"]
    except (OSError, ValueError, KeyError):
        return []


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in KEYS)
