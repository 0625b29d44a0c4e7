"""The files of results: written after every row, so that an interruption loses nothing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.race.results import circumstances
from benchmarks.tuning_parts.rules import Row
from ppl_models.files import write_whole

FOLDER = Path(__file__).parents[1] / "results"
KEYS = ("kind", "problem", "guide", "variant", "seed")


class Store:
    """Rows by part, each known by what was run; a row that is measured again takes the place of the old one.

    Args:
        path: the JSON file.
        command: how the benchmark was started.
        keep: whether rows that are there already are not measured again.
    """

    def __init__(self, path: Path, command: str, *, keep: bool = False):
        self.path, self.command, self.keep = path, command, keep
        try:
            self.parts: dict[str, Any] = json.loads(path.read_text())["parts"]
        except (OSError, ValueError, KeyError):
            self.parts = {}

    def rows(self, part: str) -> list[Row]:
        """What was measured of a part."""
        return self.parts.get(part, {}).get("rows", [])

    def kept(self, part: str, key: Row) -> Row | None:
        """The row of that key from before, where such rows stay."""
        found = next((row for row in self.rows(part) if _key(row) == _key(key)), None)
        return found if self.keep else None

    def measure(self, part: str, key: Row, make: Callable[[], Row], say: Callable[[str], None]) -> Row:
        """The row of that key: measured, or kept from before."""
        if (found := self.kept(part, key)) is not None:
            return found
        row = {**key, **make()}
        others = [old for old in self.rows(part) if _key(old) != _key(key)]
        described = circumstances(self.command, 1)
        self.parts[part] = {**described, "rows": sorted([*others, row], key=lambda row: str(_key(row)))}
        self.write()
        say(f"{part} {' '.join(str(value) for value in key.values())}: {_brief(row)}")
        return row

    def write(self) -> None:
        """Write all parts."""
        document = {"parts": dict(sorted(self.parts.items()))}
        text = json.dumps(document, indent=1) + "\n"
        write_whole(self.path, lambda path: path.write_text(text))


def _key(row: Row) -> tuple[Any, ...]:
    return tuple(row.get(name) for name in KEYS)


def _brief(row: Row) -> str:
    shown = ("passed", "status", "steps", "deficit", "deficit_mcse", "mean_error", "sd_error", "seconds", "ratio")
    found = [
        f"{name} {row[name]:.4g}" if isinstance(row[name], float) else f"{name} {row[name]}"
        for name in shown
        if name in row
    ]
    return ", ".join(found)
