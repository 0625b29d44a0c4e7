"""Draws and data as an `xarray.DataTree` in ArviZ's schema."""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import arviz_base
import numpy as np
import torch
import xarray as xr

from ppl_models.posterior.labels import Dims, Labels
from ppl_models.posterior.names import SAMPLE_DIMS, check_variables, free_name
from ppl_models.program import Program

Draws = Mapping[str, np.ndarray | torch.Tensor]
"""Arrays of shape (chain, draw, *event), by variable."""

STATISTICS, CONSTANT = "sample_stats", "constant_data"
"""Groups without sites: our statistics of the draws, and arguments."""


def make_tree(
    groups: Mapping[str, Draws],
    labels: Labels,
    *,
    attrs: Mapping[str, Any] | None = None,
    own: Mapping[str, Dims] | None = None,
) -> xr.DataTree:
    """Build a tree of named groups with labelled axes.

    Args:
        groups: by group name, arrays of shape (chain, draw, *event); for observed and constant data, of shape (*event).
        labels: dims of the variables and coordinates of the dims.
        attrs: what made the draws; written on the root and on the posterior. Mappings become JSON text.
        own: by group, dims (chain and draw not among them) of variables that are ours, whatever `labels` has by their
            name. Where an axis of the group has the name of such a variable, or of an argument, the variable gets "_"
            after it.

    Raises:
        ModelError: a variable has the name of an axis of draws, or a "/" in its name.
    """
    own = {STATISTICS: {}, **(own or {})}
    arrays = {
        group: {name: _array(value) for name, value in variables.items()}
        for group, variables in groups.items()
        if variables
    }
    of_sites = {group: set(arrays[group]) - set(own.get(group, ())) for group in arrays if not _no_sites(group)}
    variables = set().union(*of_sites.values())
    check_variables(sorted(variables))
    apart = labels.apart_from(variables)
    coords = {dim: np.asarray(values) for dim, values in apart.coords.items()}
    tree = xr.DataTree.from_dict(
        {group: _dataset(group, found, apart, coords, own.get(group, {})) for group, found in arrays.items()}
    )
    plain = {name: _plain(value) for name, value in (attrs or {}).items()}
    tree.attrs.update(plain)
    if "posterior" in tree.children:
        tree["posterior"].attrs.update(plain)
    return tree


def _no_sites(group: str) -> bool:
    return group == STATISTICS or group.endswith(CONSTANT)


def _dataset(
    group: str, arrays: Mapping[str, np.ndarray], labels: Labels, coords: Mapping[str, np.ndarray], own: Dims
) -> xr.Dataset:
    data = "data" in group
    known = {} if group == STATISTICS else labels.dims
    dims = {}
    for name, value in arrays.items():
        sizes = value.shape if data else value.shape[len(SAMPLE_DIMS) :]
        given = own[name] if name in own else known.get(name)
        if given is None or (group.endswith(CONSTANT) and not _fit(given, sizes, coords)):
            given = [_numbered(f"{name}_dim_{axis}", size, coords, arrays) for axis, size in enumerate(sizes)]
        dims[name] = list(given)
    used = {*(() if data else SAMPLE_DIMS), *(dim for axes in dims.values() for dim in axes)}
    names = {name: free_name(name, used) for name in arrays}
    return arviz_base.dict_to_dataset(
        {names[name]: value for name, value in arrays.items()},
        coords=dict(coords),
        dims={names[name]: axes for name, axes in dims.items()},
        sample_dims=[] if data else list(SAMPLE_DIMS),
        skip_event_dims="log_likelihood" in group,
    )


def _fit(dims: Sequence[str], sizes: Sequence[int], coords: Mapping[str, np.ndarray]) -> bool:
    """Whether an argument has these dims: those of a site with its name may belong to another shape."""
    return len(dims) <= len(sizes) and all(
        len(coords.get(dim, range(size))) == size for dim, size in zip(dims, sizes, strict=False)
    )


def _numbered(dim: str, size: int, coords: Mapping[str, np.ndarray], variables: Collection[str]) -> str:
    free = dim not in variables and len(coords.get(dim, range(size))) == size
    return dim if free else free_name(dim, {*coords, *variables})


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
