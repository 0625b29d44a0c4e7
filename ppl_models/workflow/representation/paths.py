"""Points in latent space decoded as rows: several for each row of a table, with draws."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ppl_models.errors import DataError
from ppl_models.workflow.representation.coordinates import RowCoordinates
from ppl_models.workflow.representation.decode import decoded_blocks
from ppl_models.workflow.representation.drawing import Draws
from ppl_models.workflow.representation.gathering import Gathered
from ppl_models.workflow.representation.new_rows import NewRows
from ppl_models.workflow.representation.representation import Representation
from ppl_models.workflow.representation.results import Arrays, RowLabels


def flat_draws(representation: Representation, coordinates: RowCoordinates, values: Draws) -> torch.Tensor:
    """Unconstrained latents of rows at each draw, shape (draw, row, dim), from values of shape (draw, *event).

    Raises:
        DataError: a latent of the rows has no value.
    """
    missing = [name for name in representation.rows.latents if name not in values]
    if missing:
        raise DataError(f"latents: '{missing[0]}' is missing; wanted {', '.join(representation.rows.latents)}.")
    rows = {}
    for name in representation.rows.latents:
        axis = representation.axis(name)
        rows[name] = values[name].movedim(1 + axis, 1).flatten(0, 1).movedim(0, axis)
    num_draws = len(values[representation.rows.latents[0]])
    return coordinates.flat(rows).unflatten(0, (num_draws, -1))


def at_points(representation: Representation, coordinates: RowCoordinates, flat: torch.Tensor) -> Draws:
    """Constrained latents, shape (draw, *event), of unconstrained ones of shape (draw, row, dim)."""
    values, _ = coordinates.values(flat.flatten(0, 1))
    found = {}
    for name, value in values.items():
        axis = representation.axis(name)
        found[name] = value.movedim(axis, 0).unflatten(0, flat.shape[:2]).movedim(1, 1 + axis)
    return found


def decode_points(
    representation: Representation, new: NewRows, values: Draws, num_draws: int, seed: int, batch_size: int
) -> tuple[dict[str, Mapping[str, np.ndarray]], dict[str, Mapping[str, np.ndarray]]]:
    """Decode latents of rows: groups with draws of the likelihood's mean and of the data, and their moments."""
    gathered = Gathered(representation, keep_draws=True)
    for block, found in decoded_blocks(representation, new, values, num_draws, seed, batch_size):
        gathered.add(block, found)
    return gathered.groups(varies=num_draws > 1)


def repeated(representation: Representation, new: NewRows, times: int) -> NewRows:
    """All rows several times, one table after the other."""
    index = torch.arange(new.num_rows).repeat(times)
    return NewRows(representation.rows.take(new.arguments, index), len(index), new.given)


def with_axis(
    representation: Representation, groups: Mapping[str, Mapping[str, np.ndarray]], sizes: tuple[int, ...], offset: int
) -> dict[str, Arrays]:
    """The axis of the rows of every variable as several axes.

    Args:
        representation: of the fit.
        groups: arrays by group and site.
        sizes: lengths of the axes.
        offset: axes before those of the site: 1 for draws.
    """
    found: dict[str, Arrays] = {}
    for group, arrays in groups.items():
        found[group] = {}
        for name, value in arrays.items():
            axis = offset + representation.axis(name)
            found[group][name] = value.reshape(*value.shape[:axis], *sizes, *value.shape[axis + 1 :])
    return found


def dims_with(representation: Representation, labels: RowLabels, new: tuple[str, ...], *, keep: bool) -> dict[str, Any]:
    """Dims of all sites of the rows with further dims before that of the rows, or in its place."""
    found = {}
    for name in (*representation.rows.latents, *representation.rows.observed):
        dims, axis = labels.dims(name), representation.axis(name)
        found[name] = (*dims[:axis], *new, *dims[axis if keep else axis + 1 :])
    return found
