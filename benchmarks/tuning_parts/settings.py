"""What was asked for on the command line, and the files that results go to."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from benchmarks import posteriordb
from benchmarks.tuning_parts.best_elbos import BestElbos
from benchmarks.tuning_parts.store import Store


@dataclass(frozen=True)
class Settings:
    """Options of a run.

    Attributes:
        folder: posteriordb's.
        seeds: how many, by part.
        problems: names; all where empty.
        guides: names; all where empty.
        output: the JSON file of results; the best ELBOs stand beside it.
        command: how the benchmark was started.
        keep: whether rows that are in the file stay.
    """

    folder: Path
    seeds: Mapping[str, int]
    problems: tuple[str, ...]
    guides: tuple[str, ...]
    output: Path
    command: str
    keep: bool

    @cached_property
    def store(self) -> Store:
        """The file of results."""
        return Store(self.output, self.command, keep=self.keep)

    @cached_property
    def best(self) -> BestElbos:
        """The file of best ELBOs."""
        return BestElbos(self.output.with_name("best_elbos.json"), self.say)

    def names(self, every: tuple[str, ...]) -> list[str]:
        """Those of the names that were asked for."""
        return [name for name in every if not self.problems or name in self.problems]

    def guide_names(self, every: tuple[str, ...]) -> list[str]:
        """Those of the guides that were asked for."""
        return [name for name in every if not self.guides or name in self.guides]

    def posteriors(self) -> Iterator[posteriordb.Problem]:
        """The problems of posteriordb that were asked for."""
        for name in self.names(posteriordb.names()):
            yield posteriordb.load(name, self.folder)

    def say(self, text: str) -> None:
        """Progress, to the terminal's other stream."""
        print(text, file=sys.stderr, flush=True)
