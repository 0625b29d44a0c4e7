"""What compiled steps are made of: chunks of them, batches of data of one shape, and the step that failed."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch

from ppl_models.engine.elbo_graph import ElboFunction
from ppl_models.engine.protocol import Runner
from ppl_models.engine.svi_graph import Batch
from ppl_models.program.data import Arguments
from ppl_models.program.feeds import Feed, Resident, ResidentFeed
from ppl_models.program.isolation import forked_random

BATCH_NUMBERS = 2**22
"""Most numbers of data stacked at once."""

Shapes = tuple[tuple[str, tuple[object, ...]], ...]


@dataclass(frozen=True)
class FailedStep:
    """A step whose loss was not finite: its ELBO, its parameters and its noise."""

    elbo: ElboFunction
    flat: torch.Tensor
    noise: tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class Chunk:
    """Steps in a row, with all that it takes to make them again; the ELBO is that of the first step's data."""

    elbo: ElboFunction
    runner: Runner
    streams: Batch
    count: int
    before: Batch
    random_state: torch.Tensor
    resident: Resident | None = None

    def failed(self, step: int, flat: torch.Tensor) -> FailedStep:
        """One of the steps, with its parameters, its noise and its data."""
        schedule_and_noise = 1 + 2 + len(self.elbo.subsamples)
        _, *noise = (stream[step] for stream in self.streams[:schedule_and_noise])
        arguments = self.elbo.program.arguments
        data = [stream[step] for stream in self.streams[schedule_and_noise:]]
        if self.resident is not None:
            arguments = self.resident.take(data[0])
        else:
            arguments = arguments.with_tensors(dict(zip(arguments.tensors(), data, strict=False)))
        return FailedStep(self.elbo.with_arguments(arguments), flat, tuple(noise))


class Source(Protocol):
    """Where compiled steps take their data from."""

    def take(self, count: int, numbers: int) -> tuple[Arguments, list[torch.Tensor], int]:
        """The next data of one shape.

        Args:
            count: most steps that they are for.
            numbers: how many numbers one step takes beside them.

        Returns:
            The first step's arguments, the streams that all steps take, and how many steps these are.
        """
        ...

    def begin(self, epoch: int) -> None:
        """Go to the first batch of an epoch."""
        ...

    def other_shapes(self) -> list[Arguments]:
        """Data of the shapes, beside the first one's, that are known to come."""
        ...


class Indexed:
    """Batches of rows in memory: a step takes an index alone."""

    def __init__(self, feed: ResidentFeed):
        self.feed = feed
        self._examples: dict[int, Arguments] = {}

    def take(self, count: int, numbers: int) -> tuple[Arguments, list[torch.Tensor], int]:
        """The next indices of one size; the arguments are any of their shapes, since a step gathers its own."""
        index = self.feed.take(count)
        size = index.shape[1]
        if size not in self._examples:
            self._examples[size] = self.feed.resident.take(index[0])
        return self._examples[size], [index], len(index)

    def begin(self, epoch: int) -> None:
        """Go to the first batch of an epoch."""
        self.feed.begin(epoch)

    def other_shapes(self) -> list[Arguments]:
        """The last batch of an epoch, where it has fewer rows."""
        left = self.feed.num_rows % self.feed.size
        return [self.feed.resident.take(torch.arange(left, device=self.feed.device))] if left else []


def source_of(batches: Iterator[Arguments]) -> Source:
    """The source for batches: by index where their rows are in memory."""
    return Indexed(batches) if isinstance(batches, ResidentFeed) else Ahead(batches)


class Ahead:
    """Takes batches of one shape from an iterator, and keeps the first of another shape for later.

    The batches have a random state of their own: how many are taken at once depends on the clock.
    """

    def __init__(self, batches: Iterator[Arguments]):
        self.batches = batches
        self.kept: Arguments | None = None
        self.random_state = torch.Generator().manual_seed(int(torch.randint(2**62, ()))).get_state()

    def take(self, count: int, numbers: int) -> tuple[Arguments, list[torch.Tensor], int]:
        """At least one and at most `count` batches of one shape, bounded in memory, stacked."""
        with forked_random():
            torch.set_rng_state(self.random_state)
            taken = self._take(count, numbers)
            self.random_state = torch.get_rng_state()
        tensors = [list(batch.tensors().values()) for batch in taken]
        return taken[0], [torch.stack(each) for each in zip(*tensors, strict=True)], len(taken)

    def begin(self, epoch: int) -> None:
        """Go to the first batch of an epoch, for a feed that has them."""
        self.kept = None
        with forked_random():
            torch.set_rng_state(torch.Generator().manual_seed(int(torch.randint(2**62, ()))).get_state())
            if isinstance(self.batches, Feed):
                self.batches.begin(epoch)
            self.random_state = torch.get_rng_state()

    def other_shapes(self) -> list[Arguments]:
        """None: nobody knows what a loader gives before it does."""
        return []

    def _take(self, count: int, numbers: int) -> list[Arguments]:
        first = self.kept if self.kept is not None else next(self.batches)
        self.kept, taken = None, [first]
        size = sum(tensor.numel() for tensor in first.tensors().values())
        while len(taken) < min(count, max(1, BATCH_NUMBERS // max(size, numbers))):
            following = next(self.batches)
            if shapes_of(following) != shapes_of(first):
                self.kept = following
                break
            taken.append(following)
        return taken


def shapes_of(arguments: Arguments) -> Shapes:
    """What compiled code depends on: shapes of tensors, and other values themselves."""
    named = arguments.named().items()
    return tuple((k, tuple(v.shape) if isinstance(v, torch.Tensor) else (type(v).__name__, repr(v))) for k, v in named)


def num_finite(found: torch.Tensor) -> int:
    """Losses before the first that is not finite."""
    finite = torch.isfinite(found)
    return len(found) if bool(finite.all()) else int(torch.argmin(finite.to(torch.int8)))
