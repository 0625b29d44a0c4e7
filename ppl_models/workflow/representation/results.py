"""Blocks of rows put together, labelled, as an `xarray.DataTree`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr

from ppl_models.checks import Check, all_passed
from ppl_models.inference import Fit
from ppl_models.posterior import Dims, Labels, free_name, make_tree
from ppl_models.program import Program
from ppl_models.program.sites import Site
from ppl_models.versions import versions
from ppl_models.workflow.representation.representation import Representation

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class RowLabels:
    """Names of the axes of a representation's sites.

    Attributes:
        labels: dims of the sites and coordinates of the dims.
        row: the dim of the rows.
    """

    labels: Labels
    row: str

    def dims(self, name: str) -> tuple[str, ...]:
        """The dims of a site or argument."""
        return tuple(self.labels.dims[name])

    def of_rows(self, names: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """Dims of variables with one number for each row."""
        return dict.fromkeys(names, (self.row,))

    def free(self, name: str) -> str:
        """The name of an axis or a variable of ours, with "_" after it where a site, a plate or an axis has it."""
        return free_name(name, self.labels.names())


def row_labels(representation: Representation, program: Program, num_rows: int, *, own: bool) -> RowLabels:
    """Labels of sites at some rows: the fit's, with numbers for rows that are not its own.

    Args:
        representation: of the fit.
        program: at the rows, or at some of them.
        num_rows: how many rows there are.
        own: whether they are the fit's own rows.
    """
    fit, rows = representation.fit, representation.rows
    name = rows.observed[0]
    row = fit.labels.of_program(representation.program).dims[name][representation.axis(name)]
    if own:
        return RowLabels(fit.labels.of_program(representation.program), row)
    sites = [representation.program.sites[site] for site in (*rows.latents, *rows.observed)]
    over_rows = {rows.plate, *(_given_dims(fit, site)[representation.axis(site.name)] for site in sites)}
    others = {dim: values for dim, values in fit.labels.coords.items() if dim not in over_rows}
    complete = Labels(others, fit.labels.dims).of_program(program)
    numbers = {complete.dims[site.name][representation.axis(site.name)]: np.arange(num_rows) for site in sites}
    return RowLabels(Labels({**complete.coords, row: np.arange(num_rows), **numbers}, complete.dims), row)


def _given_dims(fit: Fit, site: Site) -> tuple[str, ...]:
    given = fit.labels.dims.get(site.name)
    return site.dims(None if given is None else tuple(given))


def host(value: torch.Tensor) -> np.ndarray:
    """A tensor as an array in main memory."""
    return value.detach().cpu().numpy()


def joined(parts: Iterable[Mapping[str, np.ndarray]], axes: Mapping[str, int]) -> Arrays:
    """Blocks of rows one after the other, along the axis of the rows of each variable."""
    blocks = list(parts)
    return {name: np.concatenate([block[name] for block in blocks], axis=axes[name]) for name in blocks[0]}


def moments(draws: Mapping[str, np.ndarray]) -> tuple[Arrays, Arrays]:
    """Mean and sd over the first axis; the sd of one draw is NaN."""
    means = {name: np.asarray(value.mean(axis=0)) for name, value in draws.items()}
    sds = {
        name: value.std(axis=0, ddof=1) if len(value) > 1 else np.full(value.shape[1:], np.nan)
        for name, value in draws.items()
    }
    return means, sds


def tree_of(
    groups: Mapping[str, Mapping[str, np.ndarray]],
    flat: Mapping[str, Mapping[str, np.ndarray]],
    labels: Labels,
    attrs: Mapping[str, Any],
    *,
    chains: bool = False,
    own: Mapping[str, Dims] | None = None,
) -> xr.DataTree:
    """A tree of draws and of what has none.

    Args:
        groups: by group, arrays of shape (draw, *event), which get a chain, or (chain, draw, *event).
        flat: by group, arrays of shape (*event).
        labels: dims and coordinates of all of them.
        attrs: what made them.
        chains: whether the draws have chains.
        own: by group, dims of the variables that are no sites, as `make_tree` takes them.
    """
    whole = {
        group: {name: value if chains else value[None] for name, value in arrays.items()}
        for group, arrays in groups.items()
    }
    own = own or {}
    tree = make_tree(whole, labels, attrs=attrs, own=own)
    for group, arrays in flat.items():
        if arrays:
            tree[group] = xr.DataTree(_dataset(arrays, labels, own.get(group, {})))
    return tree


def _dataset(arrays: Mapping[str, np.ndarray], labels: Labels, own: Dims) -> xr.Dataset:
    dims = {name: tuple(own[name] if name in own else labels.dims[name]) for name in arrays}
    used = {dim for names in dims.values() for dim in names}
    coords = {dim: np.asarray(values) for dim, values in labels.coords.items() if dim in used}
    for name, array in arrays.items():
        coords |= {dim: np.arange(n) for dim, n in zip(dims[name], array.shape, strict=True) if dim not in coords}
    return xr.Dataset({free_name(name, used): (dims[name], array) for name, array in arrays.items()}, coords)


def made_by(representation: Representation, call: str, options: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """What made a result, for its attributes."""
    fit = representation.fit
    return {
        "made_by": call,
        "guide": fit.guide_name,
        "status": fit.status,
        **options,
        "fit": dict(fit.config),
        "versions": versions(),
        **more,
    }


def check_attrs(checks: Sequence[Check]) -> dict[str, Any]:
    """Checks as attributes: whether all passed, and the checks as JSON."""
    return {"passed": all_passed(checks), "checks": [asdict(check) for check in checks]}
