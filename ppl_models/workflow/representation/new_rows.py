"""Rows that a user brings: checked against those of the fit, and completed with the fit's other arguments."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr

from ppl_models.errors import DataError, OptionError
from ppl_models.options import check_count
from ppl_models.program import Arguments, prepare_arguments
from ppl_models.workflow.representation.representation import Representation, reads, representation_of


@dataclass(frozen=True)
class NewRows:
    """Arguments of the model for some rows.

    Attributes:
        arguments: what the model is called with.
        num_rows: how many rows there are.
        given: the arguments with rows that the user gave; others hold rows of the fit as placeholders.
        own: whether they are the fit's own rows.
    """

    arguments: Arguments
    num_rows: int
    given: frozenset[str]
    own: bool = False


def rows_to_encode(representation: Representation, data: Any) -> tuple[Representation, NewRows]:
    """All arguments with rows, as the user gives them; the fit's own for None.

    An argument given as None is unknown: what the model observes by it becomes a latent of the rows.

    Returns:
        The representation, with the latents that it has at these rows, and the rows.

    Raises:
        DataError: an argument is missing or misshapen, holds NaN, or there are no rows.
        OptionError: None, and the fit saw its data in batches.
    """
    rows = representation.rows
    if data is None:
        if representation.program.batched:
            raise OptionError("data: found None, and the fit saw its data in batches. Give the rows.")
        return representation, NewRows(representation.arguments, rows.num_rows, frozenset(rows.tensors), own=True)
    named, found = named_data(representation, data), _given(representation, data)
    missing = [name for name in rows.tensors if name not in named] if found else list(rows.tensors)
    if missing:
        raise DataError(
            f"data: '{missing[0]}' is missing; found {_quoted(found) or 'nothing'}, wanted a row of each of "
            f"{_quoted(rows.tensors)}."
        )
    unknown = [name for name in rows.tensors if name not in found]
    new = _completed(representation, {**named, **dict.fromkeys(unknown)}, found)
    if not unknown:
        return representation, new
    other = representation_of(representation.at(new.arguments))
    return other, NewRows(other.arguments, new.num_rows, new.given)


def rows_to_decode(representation: Representation, data: Any, num_rows: int | None) -> NewRows:
    """Covariates of rows whose observations are to be drawn.

    Args:
        representation: of the fit.
        data: covariates, and observations that others are to be conditioned on; None where the model has no covariates.
        num_rows: how many rows are wanted; None takes as many as `data` has.

    Raises:
        DataError: a covariate is missing or misshapen, holds NaN, or has another number of rows.
    """
    named = {} if data is None else named_data(representation, data)
    found = {} if data is None else _given(representation, data)
    missing = [name for name in representation.inputs if name not in found]
    known = {name: value for name, value in named.items() if name not in representation.rows.tensors}
    if missing and found:
        # what is given may leave nothing to read of what is not, as labels that would else be inferred from the data
        new = _completed(representation, {**known, **found}, found, num_rows)
        missing = _still_read(representation, new, missing)
    if missing:
        example = ", ".join(f"'{name}': ..." for name in missing)
        observed = missing[0] in representation.observing.values()
        how = " beside observing it (totals of counts, say)" if observed else ""
        what = "rows of it" if observed else "the covariates of the rows"
        raise DataError(
            f"data: the model reads '{missing[0]}' of each row{how}, and it is missing. Give {what}: "
            f"data={{{example}}}."
        )
    return _completed(representation, {**known, **found}, found, num_rows)


def _still_read(representation: Representation, new: NewRows, names: list[str]) -> list[str]:
    """Which of these placeholders the model reads: other rows in their place change its latents or its data."""
    rows = representation.rows
    index = (torch.arange(new.num_rows) + 1) % rows.num_rows
    others = rows.take(representation.arguments, index).tensors()
    own = {name: others[name].to(representation.program.device) for name in names}
    return list(reads(representation.program, new.arguments, own, names=rows.latents + rows.observed))


def named_data(representation: Representation, data: Any) -> dict[str, Any]:
    """Data by the name of the argument."""
    if isinstance(data, Mapping):
        return dict(data)
    if isinstance(data, tuple):
        names = representation.arguments.names or tuple(representation.arguments.kwargs)
        if len(data) > len(names):
            raise DataError(f"data: found {len(data)} arguments, the fit has {len(names)}: {_quoted(names)}.")
        return dict(zip(names, data, strict=False))
    if isinstance(data, (torch.Tensor, np.ndarray)) or hasattr(data, "__array__"):
        names = representation.rows.tensors
        if len(names) != 1:
            raise DataError(f"data: found one array, the model has rows of {_quoted(names)}. Give a mapping.")
        return {names[0]: data}
    raise DataError(
        f"data: found {type(data).__name__}, wanted a mapping of the model's arguments, a tuple of them, or one array."
    )


def _given(representation: Representation, data: Any) -> dict[str, Any]:
    """What the user gives of the arguments with rows."""
    named = named_data(representation, data)
    own = representation.arguments.named()
    found = {name: named[name] for name in representation.rows.tensors if named.get(name) is not None}
    for name, value in found.items():
        shape: tuple[int, ...] = tuple(np.shape(value))
        wanted = tuple(own[name].shape[1:])
        if len(shape) != 1 + len(wanted) or shape[1:] != wanted:
            hint = f" For a single row give {name}[None]." if shape == wanted else ""
            raise DataError(
                f"argument '{name}': found shape {shape}, wanted (rows, {', '.join(map(str, wanted))}), as the fit's."
                f"{hint}"
            )
        if not shape[0]:
            raise DataError(f"argument '{name}': found no rows, wanted at least one.")
        num_nan = _num_nan(value)
        if num_nan:
            raise DataError(
                f"argument '{name}': {num_nan} values are NaN. ppl.impute(fit, data) draws them from what is "
                "known of their rows."
            )
    sizes = {name: len(value) for name, value in found.items()}
    if len(set(sizes.values())) > 1:
        raise DataError(
            f"data: rows of {', '.join(f'{name}: {size}' for name, size in sizes.items())}; wanted as many."
        )
    return found


def _completed(
    representation: Representation, named: dict[str, Any], found: dict[str, Any], num_rows: int | None = None
) -> NewRows:
    rows, own = representation.rows, representation.arguments
    count = len(next(iter(found.values()))) if found else num_rows
    assert count is not None
    if num_rows is not None and count != num_rows:
        raise DataError(f"data: found {count} rows, wanted {num_rows}, one for each of the latents.")
    placeholders = rows.take(own, torch.arange(count) % rows.num_rows).named()
    values = {**placeholders, **named, **dict.fromkeys(rows.counts, count)}
    if set(own.names) <= set(values) and own.names:
        data: Any = tuple(values[name] for name in own.names)
    else:
        data = values
    arguments = prepare_arguments(representation.program.model, data, representation.program.dtype)
    for name in found:
        reference = own.named()[name]
        if reference.is_floating_point() and not arguments.named()[name].is_floating_point():
            arguments = arguments.in_dtype(name, reference.dtype)
    return NewRows(arguments.on(representation.program.device), count, frozenset(found))


def _num_nan(value: Any) -> int:
    array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
    return int(np.isnan(array).sum()) if array.dtype.kind == "f" else 0


def _quoted(names: Any) -> str:
    return ", ".join(f"'{name}'" for name in names)


NUM_ROWS = 16


def num_rows_given(representation: Representation, data: Any, num_rows: int | None) -> int:
    """How many rows are wanted: the number said, else that of the data, else 16.

    Raises:
        OptionError: the number is not a whole one above zero.
        DataError: the data have another number of rows.
    """
    found = {} if data is None else _given(representation, data)
    if num_rows is not None:
        check_count("num_rows", num_rows)
    if not found:
        return NUM_ROWS if num_rows is None else num_rows
    count = len(next(iter(found.values())))
    if num_rows is not None and num_rows != count:
        raise DataError(f"data: found {count} rows, and num_rows is {num_rows}; wanted as many, or num_rows left out.")
    return count


def is_data(representation: Representation, value: Any) -> bool:
    """Whether a value is rows of data, and no latents: by its names, or for one array by its shape.

    Raises:
        DataError: one array that can be either.
    """
    rows, own = representation.rows, representation.arguments.named()
    if isinstance(value, tuple):
        return True
    if isinstance(value, (xr.DataTree, xr.Dataset)):
        return False
    if isinstance(value, Mapping):
        return bool(set(value) & set(own))
    shape: tuple[int, ...] = tuple(np.shape(value))
    latent, argument = rows.latents[0], rows.tensors[0]
    site, axis = representation.program.sites[latent], representation.axis(latent)
    # one array stands for the only argument with rows, or for the only latent of the rows
    data = len(rows.tensors) == 1 and shape[1:] == own[argument].shape[1:] and len(shape) == own[argument].dim()
    latents = (
        len(rows.latents) == 1
        and len(shape) == len(site.shape)
        and all(place == axis or a == b for place, (a, b) in enumerate(zip(shape, site.shape, strict=True)))
    )
    if data and latents:
        raise DataError(
            f"an array of shape {shape} may be data or latents. Give {{'{argument}': ...}} or {{'{latent}': ...}}."
        )
    return data
