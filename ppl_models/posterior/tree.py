"""Draws and data as an `xarray.DataTree` in ArviZ's schema."""

import json
from collections.abc import Mapping
from typing import Any

import arviz_base
import numpy as np
import torch
import xarray as xr

from ppl_models.posterior.labels import Labels
from ppl_models.program import Program

Draws = Mapping[str, np.ndarray | torch.Tensor]
"""Arrays of shape (chain, draw, *event), by variable."""


def make_tree(
    groups: Mapping[str, Draws],
    labels: Labels,
    *,
    attrs: Mapping[str, Any] | None = None,
) -> xr.DataTree:
    """Build a tree of named groups with labelled axes.

    Args:
        groups: by group name, arrays of shape (chain, draw, *event); for observed and constant data, of shape (*event).
        labels: dims of the variables and coordinates of the dims.
        attrs: what made the draws; written on the root and on the posterior. Mappings become JSON text.
    """
    arrays = {
        group: {name: _array(value) for name, value in variables.items()}
        for group, variables in groups.items()
        if variables
    }
    coords = {dim: np.asarray(values) for dim, values in labels.coords.items()}
    dims = {name: list(names) for name, names in labels.dims.items()}
    # ArviZ labels groups of predictions apart.
    tree = arviz_base.from_dict(arrays, coords=coords, dims=dims, pred_coords=coords, pred_dims=dims)
    plain = {name: _plain(value) for name, value in (attrs or {}).items()}
    tree.attrs.update(plain)
    if "posterior" in tree.children:
        tree["posterior"].attrs.update(plain)
    return tree


def data_groups(program: Program) -> dict[str, dict[str, np.ndarray]]:
    """The observed values of the model's sites, and the tensor arguments that are not among them."""
    tensors = program.arguments.tensors()
    observed = program.observed_values
    taken = {id(value) for value in observed.values()}
    constant = {name: value for name, value in tensors.items() if id(value) not in taken}
    return {
        "observed_data": {name: _array(value.expand(program.sites[name].shape)) for name, value in observed.items()},
        # A site observed as a part of an argument bears its name with another shape, and one name has one set of dims.
        "constant_data": {name: _array(value) for name, value in constant.items() if name not in observed},
    }


def _array(value: np.ndarray | torch.Tensor) -> np.ndarray:
    return value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


def _plain(value: Any) -> Any:
    # NetCDF attributes hold numbers and text only.
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, (int, float, str, np.number)):
        return value
    return json.dumps(value, default=str)
