"""Minibatches from a `DataLoader`: each batch is one set of arguments of the model."""

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader

from ppl_models.errors import DataError
from ppl_models.program.data import Arguments, Data, prepare_arguments
from ppl_models.program.isolation import forked_random


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
            found = prepare_arguments(model, _as_data(batch), dtype).on(device)
            yield found.with_tensors({name: t.to(wanted.get(name, t.dtype)) for name, t in found.tensors().items()})


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
