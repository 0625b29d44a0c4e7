"""What is missing of rows of data: read off NaN or masks, and checked against what the model can tell of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyro.poutine as poutine
import torch
from torch.distributions import Independent

from ppl_models.errors import DataError, ModelError, UnknownNameError
from ppl_models.program.handlers import FromValues
from ppl_models.program.nodes import sites_of
from ppl_models.workflow.representation.new_rows import NewRows, named_data, rows_to_encode
from ppl_models.workflow.representation.representation import PROBE, Reobserve, Representation


@dataclass(frozen=True)
class Missing:
    """Rows of data and what is missing of them.

    Attributes:
        representation: of the fit, as it is at these rows.
        new: the rows, with some value of the fit's rows in every missing place.
        masks: by observed site, whether each value is missing, shape (*event).
    """

    representation: Representation
    new: NewRows
    masks: dict[str, torch.Tensor]


def read_missing(representation: Representation, data: Any, missing: Any) -> Missing:
    """Find what is missing.

    Args:
        representation: of the fit.
        data: rows, with NaN for what is missing, or any numbers there where a mask says it.
        missing: "nan", or whether each value is missing: of the shape of the one observed argument, or a mapping.

    Raises:
        DataError: nothing is missing, a mask has a wrong shape, or a covariate holds NaN.
        ModelError: the model's likelihood does not say what is missing given the rest.
    """
    named = named_data(representation, data)
    masks = _masks(representation, named, missing)
    arrays = {name: _array(value) for name, value in named.items() if name in representation.rows.tensors}
    for name, array in arrays.items():
        if name not in masks and array.dtype.kind == "f" and np.isnan(array).any():
            raise DataError(
                f"argument '{name}': holds NaN and is no observation of the model, which has no distribution for it. "
                "Fill it, or drop these rows."
            )
    if not any(mask.any() for mask in masks.values()):
        raise DataError(
            "data: nothing is missing. Mark it with NaN, or give missing=mask, true where a value is missing."
        )
    filled = {name: _filled(representation, name, array, masks.get(name)) for name, array in arrays.items()}
    representation, new = rows_to_encode(representation, {**named, **filled})
    sites = {argument: site for site, argument in representation.observing.items()}
    by_site = {}
    for name, mask in masks.items():
        if mask.any():
            shape = list(representation.program.sites[sites[name]].shape)
            shape[representation.axis(sites[name])] = new.num_rows
            by_site[sites[name]] = torch.from_numpy(mask.reshape(shape)).to(representation.program.device)
    _check_model(representation, tuple(by_site))
    return Missing(representation, new, by_site)


def _masks(representation: Representation, named: Mapping[str, Any], missing: Any) -> dict[str, np.ndarray]:
    """By observed argument, whether each value is missing."""
    observed = [name for name in representation.observing.values() if named.get(name) is not None]
    if isinstance(missing, str):
        if missing != "nan":
            raise UnknownNameError("kind of missing", missing, ("nan",))
        arrays = {name: _array(named[name]) for name in observed}
        return {name: np.isnan(array) for name, array in arrays.items() if array.dtype.kind == "f"}
    if not isinstance(missing, Mapping):
        if len(observed) != 1:
            raise DataError(f"missing: found one mask, the data observe {', '.join(observed)}. Give a mapping.")
        missing = {observed[0]: missing}
    found = {}
    for name, mask in missing.items():
        if name not in observed:
            raise UnknownNameError("observed argument", name, observed)
        array, wanted = _array(mask), _array(named[name]).shape
        if array.shape != wanted or not (array.dtype == bool or np.isin(array, (0, 1)).all()):
            raise DataError(
                f"missing: the mask of '{name}' has shape {array.shape} and dtype {array.dtype}, wanted truth values "
                f"of shape {wanted}."
            )
        found[name] = array.astype(bool)
    return found


def _filled(representation: Representation, name: str, array: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """The missing values replaced by those of rows of the fit, which lie in the likelihood's support."""
    if mask is None or not mask.any() or array.shape[1:] != tuple(representation.arguments.named()[name].shape[1:]):
        return array
    own = _array(representation.arguments.named()[name])
    return np.where(mask, own[np.arange(len(array)) % len(own)], array).astype(own.dtype)


def _array(value: Any) -> np.ndarray:
    return value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


def _check_model(representation: Representation, sites: tuple[str, ...]) -> None:
    """Refuse likelihoods under which missing values are not independent of the others given the latents."""
    rows, program = representation.rows, representation.program
    few = rows.take(representation.arguments, torch.arange(min(rows.num_rows, PROBE)))
    with program.isolated(seed=0), torch.no_grad():
        first = sites_of(poutine.trace(program.model).get_trace(*few.args, **few.kwargs))
        fixed = {name: node["value"] for name, node in first.items()}
        for name in sites:
            argument, single = representation.observing[name], elementwise(first[name]["fn"])
            if argument in representation.inputs:
                raise ModelError(
                    f"site '{name}': the model reads argument '{argument}' also elsewhere, so that values of it "
                    "cannot be missing. Let the model draw what it reads there, as SingleCellVAE(library='latent') "
                    "draws the totals of its counts."
                )
            if single.event_shape:
                raise ModelError(
                    f"site '{name}': {type(single).__name__} ties the values of a row together, so that some of them "
                    "have no density of their own. Imputation needs a likelihood that is a product over features: "
                    "Normal(...).to_event(1), say."
                )
            moved = {**fixed, name: fixed[name].roll(1, representation.axis(name))}
            with FromValues(moved), Reobserve(moved):
                other = sites_of(poutine.trace(program.model).get_trace(*few.args, **few.kwargs))
            reader = _first_difference(first, other, fixed, name)
            if reader:
                raise ModelError(
                    f"site '{name}': site '{reader}' depends on its values, so that what is missing is not given by "
                    "the latents alone."
                )


def _first_difference(first: Mapping, other: Mapping, fixed: Mapping, changed: str) -> str | None:
    for name, node in first.items():
        value = fixed[name]
        if name != changed and not torch.allclose(node["fn"].log_prob(value), other[name]["fn"].log_prob(value)):
            return name
    return None


def elementwise(fn: Any) -> Any:
    """The distribution of single values under one that declares axes as event dims."""
    while isinstance(fn, Independent):
        fn = fn.base_dist
    return fn
