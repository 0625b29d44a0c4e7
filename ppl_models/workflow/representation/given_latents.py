"""Latents that a user brings, with or without draws of each row."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr

from ppl_models.errors import DataError, UnknownNameError
from ppl_models.workflow.representation.drawing import Draws
from ppl_models.workflow.representation.representation import Representation

GROUPS = ("posterior", "prior")
"""Groups of a tree that may hold latents, the first one found."""


@dataclass(frozen=True)
class GivenLatents:
    """Constrained latents of some rows.

    Attributes:
        values: by site, shape (draw, *event); latents that all rows share may be among them.
        num_rows: how many rows there are.
        num_draws: how many draws there are.
        drawn: whether they came with an axis of draws; else it is of length one.
    """

    values: Draws
    num_rows: int
    num_draws: int
    drawn: bool

    def repeated(self, num_draws: int) -> Draws:
        """As many draws as asked for: one draw many times, or draws evenly spaced among those there are."""
        index = torch.linspace(0, self.num_draws - 1, num_draws).round().long()
        return {name: value[index.to(value.device)] for name, value in self.values.items()}


def latents_given(representation: Representation, latents: Any, *, where: str = "latents") -> GivenLatents:
    """Read latents of rows.

    Args:
        representation: of the fit.
        latents: an array where the rows have one latent, a mapping by site, or a tree of draws (of `ppl.encode`, say);
            arrays of shape (*event), as the site has it with some number of rows, or with an axis of draws before.
        where: the user's name for them.

    Raises:
        DataError: a shape is wrong, values are NaN or infinite, there are no rows, or numbers of rows or draws differ.
        UnknownNameError: a name is no latent of the model.
    """
    program, rows = representation.program, representation.rows
    arrays = _by_site(representation, latents, where)
    known = rows.latents + rows.outside
    found: dict[str, tuple[torch.Tensor, bool]] = {}
    sizes, numbers = {}, {}
    for name, array in arrays.items():
        if name not in known:
            raise UnknownNameError("latent", name, known)
        value = _tensor(representation, name, array, where)
        drawn = value.dim() == len(program.sites[name].shape) + 1
        found[name] = (value if drawn else value[None], drawn)
        if name in rows.latents:
            sizes[name] = value.shape[representation.axis(name) + drawn]
        if drawn:
            numbers[name] = len(value)
    if not sizes:
        raise DataError(f"{where}: found none of {', '.join(rows.latents)}; wanted values of at least one.")
    for what, counts in (("rows", sizes), ("draws", numbers)):
        if len(set(counts.values())) > 1:
            raise DataError(
                f"{where}: found {what} {', '.join(f'{k}: {v}' for k, v in counts.items())}; wanted as many."
            )
    num_draws = next(iter(numbers.values()), 1)
    values = {
        name: value if drawn else value.expand(num_draws, *value.shape[1:]) for name, (value, drawn) in found.items()
    }
    return GivenLatents(values, next(iter(sizes.values())), num_draws, bool(numbers))


def _by_site(representation: Representation, latents: Any, where: str) -> dict[str, Any]:
    names = representation.rows.latents + representation.rows.outside
    if isinstance(latents, xr.DataTree):
        group = next((group for group in GROUPS if group in latents.children), None)
        if group is None and not latents.data_vars:
            raise DataError(f"{where}: found a tree without a group {' or '.join(GROUPS)}.")
        latents = (latents if group is None else latents[group]).to_dataset()
    if isinstance(latents, xr.Dataset):
        return {name: _flat_draws(latents[name]) for name in names if name in latents}
    if isinstance(latents, Mapping):
        return dict(latents)
    if len(representation.rows.latents) > 1:
        raise DataError(
            f"{where}: found one array, the rows have the latents {', '.join(representation.rows.latents)}. "
            f"Give a mapping by their names.{_hint(representation, latents)}"
        )
    name = next(iter(representation.rows.latents))
    return {name: _flat_draws(latents) if isinstance(latents, xr.DataArray) else latents}


def _hint(representation: Representation, latents: Any) -> str:
    """What to do with an array that has the shape of data, or of one row of them."""
    tensors, shape = representation.rows.tensors, tuple(np.shape(latents))
    for name in tensors:
        row = tuple(representation.arguments.named()[name].shape[1:])
        if row and shape in (row, (*shape[:1], *row)):
            rows = "row[None]" if shape == row else name
            every = f"{{{', '.join(f'{one!r}: ...' for one in tensors)}}}" if len(tensors) > 1 else rows
            return f" This is the shape of '{name}', of data: pass its latents, ppl.encode(fit, {every})['mean']."
    return ""


def _flat_draws(array: xr.DataArray) -> np.ndarray:
    """Chains one after the other; arrays without draws as they are."""
    if "draw" not in array.dims:
        return array.to_numpy()
    if "chain" not in array.dims:
        return array.transpose("draw", ...).to_numpy()
    values = array.transpose("chain", "draw", ...).to_numpy()
    return values.reshape(-1, *values.shape[2:])


def _tensor(representation: Representation, name: str, array: Any, where: str) -> torch.Tensor:
    program = representation.program
    try:
        value = torch.as_tensor(np.array(array) if not isinstance(array, torch.Tensor) else array.detach())
    except (TypeError, ValueError, RuntimeError):
        raise DataError(f"{where}: '{name}' is a {type(array).__name__}, wanted an array of numbers.") from None
    site = program.sites[name]
    local = name in representation.rows.latents
    axis = representation.axis(name) if local else None
    wanted = [str(size) if place != axis else "rows" for place, size in enumerate(site.shape)]
    shape = value.shape[1:] if value.dim() == len(site.shape) + 1 else value.shape
    fits = len(shape) == len(site.shape) and all(
        place == axis or a == b for place, (a, b) in enumerate(zip(shape, site.shape, strict=True))
    )
    if not fits:
        raise DataError(
            f"{where}: '{name}' has shape {tuple(value.shape)}, wanted ({', '.join(wanted)}), or (draw, "
            f"{', '.join(wanted)}).{_hint(representation, value)}"
        )
    if not value.numel():
        raise DataError(f"{where}: '{name}' has shape {tuple(value.shape)}: no rows, wanted at least one.")
    if value.is_floating_point() and not torch.isfinite(value).all():
        raise DataError(f"{where}: '{name}' holds NaN or infinite values.")
    return value.to(program.device, program.dtype) if site in program.sites.latent else value.to(program.device)
