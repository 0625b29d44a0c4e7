"""Labelled draws as one matrix: (chain, draw, scalar parameter)."""

import itertools
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ppl_models.errors import DataError

MIN_DRAWS = 100


@dataclass(frozen=True)
class LabelledDraws:
    """Scalar parameters side by side.

    Attributes:
        labels: one per scalar parameter: `tau`, `theta[Choate]`, `beta[3]`, `L[0, 1]`.
        values: draws, shape (chain, draw, parameter), each parameter in its own unit.
    """

    labels: tuple[str, ...]
    values: NDArray[np.float64]


def labelled_draws(dataset: xr.Dataset, *, what: str = "draws") -> LabelledDraws:
    """Flatten a Dataset of draws, the variables in their own order.

    Args:
        dataset: variables with the dims `chain` and `draw` and any event dims after them.
        what: how error messages call this dataset.

    Returns:
        Labels and values.

    Raises:
        DataError: no variables, a variable without `chain` or `draw`, or one that is not numeric.
    """
    labels: list[str] = []
    blocks: list[NDArray[np.float64]] = []
    for name, array in dataset.data_vars.items():
        missing = [dim for dim in ("chain", "draw") if dim not in array.dims]
        if missing:
            raise DataError(
                f"{what}: variable {str(name)!r} has dims {array.dims}, needs 'chain' and 'draw'. "
                f"Add them with .expand_dims({missing})."
            )
        if array.dtype.kind not in "fiub":
            raise DataError(f"{what}: variable {str(name)!r} has dtype {array.dtype}, needs real numbers. Drop it.")
        array = array.transpose("chain", "draw", ...)
        if not array.sizes["chain"] * array.sizes["draw"]:
            raise DataError(f"{what}: variable {str(name)!r} has no draws, needs at least one. Sample again.")
        labels += _scalar_labels(str(name), array)
        blocks.append(array.to_numpy().astype(float).reshape(*array.shape[:2], -1))
    if not blocks:
        raise DataError(f"{what}: no variables, needs at least one. Pass the posterior group.")
    return LabelledDraws(tuple(labels), np.concatenate(blocks, axis=2))


def finite_draws(dataset: xr.Dataset, *, what: str) -> LabelledDraws:
    """`labelled_draws` that must be finite and at least 100 in number.

    Raises:
        DataError: also for NaN or infinite draws, and for fewer than 100 draws over all chains.
    """
    draws = labelled_draws(dataset, what=what)
    num_chains, num_draws, _ = draws.values.shape
    if num_chains * num_draws < MIN_DRAWS:
        raise DataError(
            f"{what}: {num_chains} chains of {num_draws} draws, needs at least {MIN_DRAWS} draws in all. Draw more."
        )
    bad = ~np.isfinite(draws.values)
    if bad.any():
        worst = int(bad.sum(axis=(0, 1)).argmax())
        raise DataError(
            f"{what}: {bad[..., worst].sum()} draws of {draws.labels[worst]!r} are NaN or infinite, "
            f"{bad.any(axis=(0, 1)).sum()} parameters in all; needs finite draws. Look at how they were made."
        )
    return draws


def aligned(draws: xr.Dataset, baseline: xr.Dataset) -> xr.Dataset:
    """The draws with variables and event dims in the order of the baseline's.

    Raises:
        DataError: the two do not hold the same variables, shapes and coordinate labels.
    """
    found, wanted = {str(name) for name in draws.data_vars}, {str(name) for name in baseline.data_vars}
    if found != wanted:
        raise DataError(
            f"draws and baseline: only the draws have {sorted(found - wanted)}, only the baseline has "
            f"{sorted(wanted - found)}; needs the same variables. Select them with dataset[[...]]."
        )
    return xr.Dataset({name: _aligned_variable(draws[name], baseline[name]) for name in baseline.data_vars})


def _aligned_variable(array: xr.DataArray, target: xr.DataArray) -> xr.DataArray:
    if set(array.dims) == set(target.dims):
        array = array.transpose(*target.dims)
    sample_dims = ("chain", "draw")
    shape, wanted = (tuple(a.sizes[dim] for dim in a.dims if dim not in sample_dims) for a in (array, target))
    if shape != wanted:
        raise DataError(
            f"variable {str(target.name)!r}: shape {shape} in the draws, {wanted} in the baseline; "
            "needs the same. Check that both were made from the same data."
        )
    for dim in set(array.dims) & set(target.dims) - set(sample_dims):
        if dim in array.coords and dim in target.coords and not array[dim].equals(target[dim]):
            raise DataError(
                f"variable {str(target.name)!r}: the labels of dim {str(dim)!r} differ between draws and baseline; "
                "needs the same labels in the same order. Use draws.reindex_like(baseline)."
            )
    return array


def _scalar_labels(name: str, array: xr.DataArray) -> list[str]:
    dims = array.dims[2:]
    if not dims:
        return [name]
    coords = [array[dim].to_numpy().tolist() for dim in dims]  # positions where a dim has no coordinate
    return [f"{name}[{', '.join(str(value) for value in index)}]" for index in itertools.product(*coords)]
