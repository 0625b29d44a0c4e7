"""What an encoder sees of a call: the observed values of each row, some arguments, or a function of them."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from guides.amortization.layout import Layout
from guides.errors import FamilyOptionError, MissingDataError

Inputs = str | Sequence[str] | Callable[..., torch.Tensor] | None
"""Names of arguments of the model, or a function of its arguments; None for the observed values."""
GUIDE = "amortized"


@dataclass(frozen=True)
class Reader:
    """Reads the encoder's input off the arguments of a call.

    Attributes:
        names: arguments of the model to read; None where a function gives the input, or the model's observed sites do.
        function: of the model's arguments; None otherwise.
        event_dims: of the observed values, where these are read.
        flatten: whether to make one vector of each row.
    """

    names: tuple[str, ...] | None
    function: Callable[..., torch.Tensor] | None
    event_dims: tuple[int, ...] = ()
    flatten: bool = False

    @property
    def needs_model(self) -> bool:
        """Whether only a run of the model tells what it observes."""
        return self.names is None and self.function is None

    def read(self, model: Callable[..., Any], args: Any, kwargs: Any) -> torch.Tensor:
        """The encoder's input, rows first.

        Raises:
            MissingDataError: an argument is None.
            FamilyOptionError: there is no such argument, or it is no tensor.
        """
        if self.function is not None:
            return _with_columns(_tensor("what the function given as inputs returns", self.function(*args, **kwargs)))
        assert self.names is not None
        named = arguments_by_name(model, args, kwargs)
        values = []
        for name in self.names:
            if name not in named:
                raise FamilyOptionError(
                    f"amortized: inputs names argument {name!r}, and the model's are {', '.join(map(repr, named))}."
                )
            if named[name] is None:
                raise MissingDataError(GUIDE, name)
            values.append(_tensor(f"argument {name!r}", named[name]))
        if len(values) == 1 and not self.flatten:
            return _with_columns(values[0])
        return torch.cat([_rows(value) for value in values], -1)

    def of_observed(self, observed: Mapping[str, torch.Tensor], layout: Layout) -> torch.Tensor:
        """The encoder's input made of the observed values inside the data plate, shape (row, number)."""
        return torch.cat([rows_first(observed[name], layout, dim) for name, dim in layout.observed.items()], -1)


def make_reader(
    inputs: Inputs, layout: Layout, observed: Mapping[str, Any], model: Callable[..., Any], args: Any, kwargs: Any
) -> Reader:
    """Decide how the input is read.

    Where every observed site holds an argument of the model, with its rows first, no later call needs a run of the
    model for it.
    """
    if isinstance(inputs, str):
        return Reader((inputs,), None)
    if callable(inputs):
        return Reader(None, inputs)
    if inputs is not None:
        return Reader(tuple(inputs), None, flatten=len(inputs) > 1)
    named = arguments_by_name(model, args, kwargs)
    found = []
    for site, event_dim in layout.observed.items():
        value = observed[site]
        names = [name for name, argument in named.items() if argument is value]
        if not names or value.dim() != event_dim - layout.dim:
            return Reader(None, None)
        found.append(names[0])
    return Reader(tuple(found), None, flatten=True)


def arguments_by_name(model: Callable[..., Any], args: Any, kwargs: Any) -> dict[str, Any]:
    """What a model is called with, by the names of its parameters."""
    function: Any = inspect.unwrap(model)
    function = function.forward if isinstance(function, nn.Module) else function
    signature = inspect.signature(function)
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    found = dict(bound.arguments)
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            found.update(found.pop(name))
        elif parameter.kind is parameter.VAR_POSITIONAL:
            found.update({f"{name}[{index}]": value for index, value in enumerate(found.pop(name))})
    return found


def rows_first(value: torch.Tensor, layout: Layout, event_dim: int) -> torch.Tensor:
    """An observed value as one vector per row, shape (row, number)."""
    axis = value.dim() + layout.dim - event_dim
    if axis < 0:  # a value that the plate broadcasts says nothing of a row
        return value.reshape(1, -1)
    return _rows(value.movedim(axis, 0))


def _rows(value: torch.Tensor) -> torch.Tensor:
    return value.reshape(len(value), -1) if value.dim() else value.reshape(1, 1)


def _with_columns(value: torch.Tensor) -> torch.Tensor:
    return value[:, None] if value.dim() == 1 else value


def _tensor(what: str, value: Any) -> torch.Tensor:
    if not isinstance(value, torch.Tensor) or not value.dim():
        found = f"shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__
        raise FamilyOptionError(f"amortized: {what} is no tensor with rows first: found {found}.")
    return value
