"""Posterior draws of a tree as points of a program's flat unconstrained space."""

import numpy as np
import torch
import xarray as xr

from ppl_models.errors import DataError, ModelError
from ppl_models.inference.draws import unconstrained
from ppl_models.program import Program

FEWEST_DRAWS = 20
"""Of each chain."""


def posterior_points(program: Program, draws: xr.DataTree) -> np.ndarray:
    """The draws of a tree as flat unconstrained points, shape (chain, draw, dim).

    Args:
        program: the model with its data.
        draws: its group "posterior" holds every latent, dims chain, draw, *event.

    Raises:
        DataError: they are no such draws, are of other parameters or other data, too few, or do not vary.
        ModelError: the model has discrete latents, which have no unconstrained coordinates.
    """
    if program.sites.discrete:
        raise ModelError(
            f"site '{program.sites.discrete[0].name}': bridge sampling needs a density of continuous latents. Sum it "
            "out: infer={'enumerate': 'parallel'}."
        )
    if not isinstance(draws, xr.DataTree) or "posterior" not in draws.children:
        raise DataError(
            f"draws: found {type(draws).__name__}, wanted a DataTree with a group 'posterior', as ppl.sample gives it."
        )
    _check_same_data(program, draws)
    posterior = draws["posterior"].to_dataset()
    values = {site.name: _values(posterior, site.name, tuple(site.shape)) for site in program.sites.latent}
    chains, length = next(iter(values.values())).shape[:2]
    if length < FEWEST_DRAWS:
        raise DataError(f"draws: found {length} in each chain, wanted at least {FEWEST_DRAWS}. Sample more.")
    flat = {
        name: torch.as_tensor(value, dtype=program.dtype, device=program.device).flatten(0, 1)
        for name, value in values.items()
    }
    with program.isolated(seed=0):
        points = unconstrained(program, flat)
    names = [name for name, (where, _) in program.slices.items() if not _sound(points[:, where])]
    if names:
        raise DataError(
            f"draws of '{names[0]}': they do not vary, or lie on the edge of or outside the site's support. Sample the "
            "model that is given here."
        )
    return points.reshape(chains, length, -1)


def _values(posterior: xr.Dataset, name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name not in posterior:
        known = ", ".join(map(repr, posterior.data_vars))
        raise DataError(f"draws: no latent '{name}' among {known}. Pass draws of the same model, from ppl.sample.")
    array = posterior[name]
    if not {"chain", "draw"} <= set(array.dims):
        raise DataError(f"draws of '{name}': dims {array.dims}, wanted chain, draw and those of the site.")
    value = array.transpose("chain", "draw", ...).to_numpy()
    if value.shape[2:] != shape:
        raise DataError(
            f"draws of '{name}': shape {value.shape[2:]}, wanted {shape}. Pass draws of the same model and data."
        )
    return value


def _check_same_data(program: Program, draws: xr.DataTree) -> None:
    if "observed_data" not in draws.children:
        return
    observed = draws["observed_data"].to_dataset()
    for name, value in program.observed_values.items():
        if name not in observed:
            continue
        theirs, ours = observed[name].to_numpy(), value.expand(program.sites[name].shape).detach().cpu().numpy()
        if theirs.shape != ours.shape or not np.allclose(theirs, ours, rtol=1e-5, atol=0.0, equal_nan=True):
            raise DataError(
                f"draws: they were made with other data: '{name}' differs. Sample with the data given here."
            )


def _sound(points: np.ndarray) -> bool:
    return bool(np.isfinite(points).all() and (np.ptp(points, axis=0) > 0.0).all())
