"""The data that a model is called with: converted to tensors and checked before any step."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ppl_models.errors import DataError

Data = Mapping[str, Any] | tuple[Any, ...]

SINGLE = "Wrap a single argument as data=(y,) or data={'y': y}."
TABLE = (
    "ppl_models.datasets.rows_of reads a DataFrame, an AnnData, a sparse matrix or a Dataset: "
    "data={'x': datasets.rows_of(table)['x']}."
)


@dataclass(frozen=True)
class Arguments:
    """What a model is called with: `model(*args, **kwargs)`."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    names: tuple[str, ...]

    def named(self) -> dict[str, Any]:
        """Every argument by the name of the model's parameter that it fills."""
        return {**dict(zip(self.names, self.args, strict=True)), **self.kwargs}

    def tensors(self) -> dict[str, torch.Tensor]:
        """The arguments that are tensors, by name."""
        return {name: value for name, value in self.named().items() if isinstance(value, torch.Tensor)}

    def with_tensors(self, tensors: Mapping[str, torch.Tensor]) -> "Arguments":
        """The same arguments with other tensors, by name."""
        args = tuple(tensors.get(name, value) for name, value in zip(self.names, self.args, strict=True))
        return Arguments(args, {**self.kwargs, **{k: v for k, v in tensors.items() if k in self.kwargs}}, self.names)

    def on(self, device: torch.device) -> "Arguments":
        """The same arguments, their tensors on a device."""
        return self.with_tensors({name: tensor.to(device) for name, tensor in self.tensors().items()})

    def in_dtype(self, name: str, dtype: torch.dtype) -> "Arguments":
        """The same arguments, one of them converted to a dtype."""
        return self.with_tensors({name: self.named()[name].to(dtype)})

    def name_of(self, tensor: object) -> str | None:
        """The name of the argument that is this very tensor."""
        return next((name for name, value in self.named().items() if value is tensor), None)


def prepare_arguments(model: Callable, data: Data, dtype: torch.dtype | None) -> Arguments:
    """Bind data to a model's signature and turn arrays into tensors.

    Args:
        model: a Pyro model, function or module.
        data: a mapping, for `model(**data)`, or a tuple, for `model(*data)`. Arrays (NumPy, pandas, xarray) and lists
            of numbers with a fraction become tensors; other values are passed as they are.
        dtype: floating tensors are cast to it; None leaves them.

    Raises:
        DataError: an argument is missing, unknown, holds NaN or is no number, or `data` is neither mapping nor tuple.
    """
    if isinstance(data, Mapping):
        args, kwargs = (), dict(data)
    elif isinstance(data, tuple):
        args, kwargs = data, {}
    else:
        raise DataError(
            f"data: found {type(data).__name__}, wanted a mapping, for model(**data), or a tuple, for model(*data). "
            + (TABLE if _is_table(data) else SINGLE)
        )
    for name in kwargs:
        if not isinstance(name, str):
            raise DataError(f"data: key {name!r} is a {type(name).__name__}; keys name the model's arguments.")
    names = _positional_names(model, args, kwargs)
    return Arguments(
        tuple(_convert(name, value, dtype) for name, value in zip(names, args, strict=True)),
        {name: _convert(name, value, dtype) for name, value in kwargs.items()},
        names,
    )


def _positional_names(model: Callable, args: tuple, kwargs: Mapping[str, Any]) -> tuple[str, ...]:
    signature = _signature(model)
    if signature is None:
        return tuple(f"argument {i}" for i in range(len(args)))
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise DataError(
            f"data do not fit the model's signature {signature}: {error}. Found {sorted(kwargs) or len(args)}; "
            "give every argument that has no default, under the model's own names; where a loader's batches hold more "
            "than the model takes, as labels, drop it in the loader's collate_fn."
        ) from None
    positional = [
        p.name for p in signature.parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    extra = [f"argument {i}" for i in range(len(positional), len(args))]
    return tuple((positional + extra)[: len(args)])


def _signature(model: Callable) -> inspect.Signature | None:
    target = inspect.unwrap(model)
    target = target.forward if isinstance(target, torch.nn.Module) else target
    try:
        return inspect.signature(target)
    except (TypeError, ValueError):
        return None


def _is_table(value: object) -> bool:
    """Whether it has rows that are no array yet: sparse, or with data and labels apart."""
    return hasattr(value, "toarray") or hasattr(value, "obs_names") or hasattr(value, "iloc")


def _convert(name: str, value: Any, dtype: torch.dtype | None) -> Any:
    if not isinstance(value, torch.Tensor):
        if _is_table(value) and not hasattr(value, "iloc"):
            raise DataError(f"argument '{name}': found {type(value).__name__}, wanted an array. {TABLE}")
        if not _is_array(value):
            return value
        value = _tensor_from_array(name, value)
    if value.dim() and not len(value):
        raise DataError(f"argument '{name}': found no rows (shape {tuple(value.shape)}), wanted one at least.")
    if not (value.is_floating_point() or value.is_complex()):
        return value.contiguous()
    num_nan = int(torch.isnan(value).sum())
    if num_nan:
        first = tuple(int(i) for i in torch.nonzero(torch.isnan(value))[0])
        raise DataError(
            f"argument '{name}': {num_nan} of {value.numel()} values are NaN, the first at index {first}. "
            "Drop those rows, or pass finite numbers with a mask that the model applies. Where the model has a plate "
            "over the data, fit the complete rows, and ppl.impute infers what the others lack."
        )
    return (value.to(dtype) if dtype is not None and value.is_floating_point() else value).contiguous()


def _is_array(value: Any) -> bool:
    if isinstance(value, list):
        return _has_fraction(value)
    return isinstance(value, np.ndarray) or (hasattr(value, "__array__") and not isinstance(value, type))


def _has_fraction(value: list) -> bool:
    # A list of whole numbers may well be a configuration (layer sizes); one with fractions is data.
    items = [x for item in value for x in (item if isinstance(item, list) else [item])]
    return bool(items) and all(isinstance(x, (int, float)) for x in items) and any(isinstance(x, float) for x in items)


def _tensor_from_array(name: str, value: Any) -> torch.Tensor:
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise DataError(f"argument '{name}': {error}. Give a rectangular array of numbers.") from None
    if array.dtype.kind not in "biuf":
        raise DataError(
            f"argument '{name}': dtype {array.dtype} is not numeric. Encode categories as integer codes "
            "(pandas: series.astype('category').cat.codes) and dates as numbers."
        )
    # A copy: read-only and non-contiguous arrays, and negative strides, are none of torch's business.
    return torch.from_numpy(np.array(array, copy=True, order="C"))
