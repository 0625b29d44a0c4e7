"""Minibatches from a `DataLoader`: each batch is one set of arguments of the model."""

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from ppl_models.errors import DataError, OptionError
from ppl_models.program.data import Arguments, Data, prepare_arguments
from ppl_models.program.isolation import forked_random
from ppl_models.seeds import child_seed


def loaded(data: Any, batch_size: int | None) -> Any:
    """A `Dataset` as what can be fitted: its tensors where it is made of them, else a loader; other data as they are.

    Args:
        data: as the user gave them.
        batch_size: rows of a batch.

    Raises:
        DataError: a dataset without a batch size, or an empty one.
    """
    if not isinstance(data, Dataset):
        return data
    if isinstance(data, TensorDataset):
        return tuple(data.tensors)
    if batch_size is None:
        raise DataError(f"data: found a {type(data).__name__} and no batch_size. Give batch_size=128, or a DataLoader.")
    if isinstance(data, IterableDataset):
        return DataLoader(data, batch_size=batch_size)
    rows: Any = data
    if not len(rows):
        raise DataError("data: the Dataset is empty.")
    return DataLoader(data, batch_size=batch_size, shuffle=True)


def split_rows(num_rows: int, share: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Indices of the rows to train on and of those held out, each in the data's order.

    Raises:
        OptionError: none would be left to train on.
    """
    number = max(1, round(share * num_rows))
    if number >= num_rows:
        raise OptionError(f"held_out: found {share}, which leaves none of {num_rows} rows to train on.")
    generator = torch.Generator().manual_seed(child_seed(seed, "held out"))
    order = torch.randperm(num_rows, generator=generator, device="cpu")
    return order[number:].sort().values, order[:number].sort().values


def split_dataset(data: Dataset[Any], share: float, seed: int) -> tuple[Dataset[Any], Dataset[Any]]:
    """A dataset without the rows held out, and these."""
    rows: Any = data
    train, apart = split_rows(len(rows), share, seed)
    return Subset(data, train.tolist()), Subset(data, apart.tolist())


def first_batch(data: Any) -> Data:
    """The data to build a program with: the first batch of a loader, or the data themselves.

    Raises:
        DataError: the loader is empty, or its batches are neither tensors, tuples nor mappings.
    """
    if not isinstance(data, DataLoader):
        return data
    # A loader draws the order of its batches from torch's generator, which is not ours to move.
    with forked_random():
        batch = next(iter(data), None)
    if batch is None:
        raise DataError("data: the DataLoader is empty; give one with at least one batch.")
    return _as_data(batch)


def batches(
    model: Callable[..., Any], loader: DataLoader[Any], like: Arguments, dtype: torch.dtype, device: torch.device
) -> Iterator[Arguments]:
    """Arguments of one step after the other, epoch after epoch.

    Args:
        model: the model that they are for.
        loader: gives the batches.
        like: the arguments that the program was built with; later batches take their dtypes.
        dtype: floating dtype of the data.
        device: where they are put.
    """
    wanted = {name: tensor.dtype for name, tensor in like.tensors().items()}
    while True:
        for batch in loader:
            yield arguments_of_batch(model, batch, wanted, dtype, device)


def arguments_of_batch(
    model: Callable[..., Any], batch: Any, wanted: Mapping[str, torch.dtype], dtype: torch.dtype, device: torch.device
) -> Arguments:
    """What the model is called with for one batch of a loader; tensors take the dtypes wanted, by argument."""
    found = prepare_arguments(model, _as_data(batch), dtype).on(device)
    return found.with_tensors({name: t.to(wanted.get(name, t.dtype)) for name, t in found.tensors().items()})


def all_batches(
    model: Callable[..., Any], data: Any, like: Arguments, dtype: torch.dtype, device: torch.device, most: int
) -> list[Arguments]:
    """Arguments of each batch of a loader, up to a number of them; or of the data themselves."""
    if not isinstance(data, DataLoader):
        return [prepare_arguments(model, data, dtype).on(device)]
    with forked_random():
        count = sum(1 for _ in zip(range(most), data, strict=False))
        return list(islice(batches(model, data, like, dtype, device), count))


def _as_data(batch: Any) -> Data:
    if isinstance(batch, Mapping):
        return batch
    if isinstance(batch, (tuple, list)):
        return tuple(batch)
    if isinstance(batch, torch.Tensor):
        return (batch,)
    raise DataError(
        f"data: a batch of the DataLoader is a {type(batch).__name__}, wanted a tensor, a tuple or a mapping."
    )
