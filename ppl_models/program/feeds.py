"""Where the batches of a training by epochs come from: rows in memory, or a `DataLoader`."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch.utils.data import DataLoader

from ppl_models.errors import DataError
from ppl_models.program.batches import arguments_of_batch
from ppl_models.program.data import Arguments
from ppl_models.program.isolation import forked_random
from ppl_models.program.rows import Rows
from ppl_models.seeds import child_seed


@runtime_checkable
class Feed(Protocol):
    """Batches, epoch after epoch; an iterator that never ends.

    Attributes:
        num_rows: rows of an epoch.
        num_steps: batches of an epoch.
        counts: rows of each batch given since the epoch began.
    """

    num_rows: int
    num_steps: int
    counts: list[int]

    def begin(self, epoch: int) -> None:
        """Go to the first batch of an epoch."""
        ...

    def __iter__(self) -> Iterator[Arguments]: ...

    def __next__(self) -> Arguments: ...


@dataclass(frozen=True)
class Resident:
    """Rows in memory, of which a step takes those of an index.

    Attributes:
        rows: which arguments have them.
        arguments: all of them.
    """

    rows: Rows
    arguments: Arguments

    def take(self, index: torch.Tensor) -> Arguments:
        """The rows of an index, shape (batch,)."""
        return self.rows.take(self.arguments, index)


class ResidentFeed:
    """Batches of rows in memory, in an order of its own for every epoch.

    Args:
        resident: the rows.
        size: rows of a batch; the last of an epoch may hold fewer.
        seed: of the orders; an epoch's order depends on it and the epoch's number alone.
        device: where the rows are.
    """

    def __init__(self, resident: Resident, size: int, seed: int, device: torch.device):
        self.resident, self.seed, self.device = resident, seed, device
        self.num_rows = resident.rows.num_rows
        self.size = min(size, self.num_rows)
        self.num_steps = -(-self.num_rows // self.size)
        self.begin(0)

    def begin(self, epoch: int) -> None:
        """Go to the first batch of an epoch."""
        generator = torch.Generator().manual_seed(child_seed(self.seed, f"epoch {epoch}"))
        self.order = torch.randperm(self.num_rows, generator=generator, device="cpu").to(self.device)
        self.epoch, self._start = epoch, 0
        self.counts: list[int] = []

    def take(self, count: int) -> torch.Tensor:
        """Indices of the next batches, at most `count`, all of one size; shape (step, batch)."""
        if self._start >= self.num_rows:
            self.begin(self.epoch + 1)
        left = self.num_rows - self._start
        size = min(self.size, left)
        count = max(1, min(count, left // size))
        taken = self.order[self._start : self._start + count * size].reshape(count, size)
        self._start += count * size
        self.counts += [size] * count
        return taken

    def __iter__(self) -> Iterator[Arguments]:
        return self

    def __next__(self) -> Arguments:
        return self.resident.take(self.take(1)[0])


class LoaderFeed:
    """Batches of a loader, whose order is the loader's own.

    Args:
        model: the model that they are for.
        loader: gives them.
        rows: which arguments have rows.
        like: the arguments that the program was built with; later batches take their dtypes.
        dtype: floating dtype of the data.
        device: where they are put.
        check: refuses arguments that the model cannot observe; asked in the first epoch.
        check_again: the same of later epochs, whose draws may be others; what it costs comes on top of every step.

    Raises:
        DataError: the loader gives no rows; by the iterator, a batch that cannot be fitted, with its place.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        loader: DataLoader[Any],
        rows: Rows,
        like: Arguments,
        dtype: torch.dtype,
        device: torch.device,
        check: Callable[[Arguments], object] = lambda arguments: None,
        check_again: Callable[[Arguments], object] = lambda arguments: None,
    ):
        self.check, self.check_again = check, check_again
        self.model, self.loader, self.rows, self.dtype, self.device = model, loader, rows, dtype, device
        self.wanted = {name: tensor.dtype for name, tensor in like.tensors().items()}
        self.num_rows, self.num_steps = self._size()
        if not self.num_steps:
            raise DataError("data: the DataLoader gives no batch (drop_last with too few rows?); give at least one.")
        self.counts: list[int] = []
        self.epoch = -1
        self._iterator: Iterator[Any] | None = None

    def begin(self, epoch: int) -> None:
        """Go to the first batch of an epoch."""
        self.epoch, self._iterator, self.counts = epoch, iter(self.loader), []

    def __iter__(self) -> Iterator[Arguments]:
        return self

    def __next__(self) -> Arguments:
        if self._iterator is None:
            self.begin(0)
        assert self._iterator is not None
        batch = next(self._iterator, None)
        if batch is None:  # a stream that is shorter this time
            self._iterator = iter(self.loader)
            batch = next(self._iterator, None)
        if batch is None:
            raise DataError(
                f"data: the DataLoader gives no batch in epoch {self.epoch + 1}, and had some before. Give a dataset "
                "that can be read again: its __iter__ must begin anew at every call."
            )
        found = self._arguments(batch)
        self.counts.append(self._count(found))
        return found

    def _arguments(self, batch: Any) -> Arguments:
        try:
            found = arguments_of_batch(self.model, batch, self.wanted, self.dtype, self.device)
            (self.check if self.epoch == 0 else self.check_again)(found)
            return found
        except DataError as error:
            place = f"batch {len(self.counts) + 1} of epoch {self.epoch + 1}"
            raise DataError(f"data: {place} of the DataLoader: {error}") from error

    def _count(self, arguments: Arguments) -> int:
        return len(arguments.named()[self.rows.tensors[0]])

    def _size(self) -> tuple[int, int]:
        """Rows and batches of an epoch: as the loader says, or counted in a pass over it."""
        loader: Any = self.loader
        try:
            if loader.batch_sampler is None:
                raise TypeError("its items are batches already")
            rows = min(len(loader.dataset), len(loader.sampler))
            return rows, len(loader)
        except (TypeError, AttributeError, NotImplementedError):
            with forked_random():
                sizes = [self._count(arguments_of_batch(self.model, b, {}, self.dtype, self.device)) for b in loader]
            return sum(sizes), len(sizes)
