"""`init=`: where a fit of an automatic guide begins."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.distributions import biject_to

from guides import init_to_prior_median
from ppl_models.errors import DataError, OptionError, UnknownNameError
from ppl_models.inference.draws import latent_draws
from ppl_models.inference.preconditioning.pilot import MAX_DENSE, Normal
from ppl_models.program import Program
from ppl_models.program.sites import Site

if TYPE_CHECKING:
    from ppl_models.inference.fit_result import Fit

PRIOR_MEDIAN, PATHFINDER = "prior_median", "pathfinder"
NUM_DRAWS = 4_000
DRAWS_PER_DIM = 10
"""Draws that a dense covariance is read from, at least, by dim."""
SMALLEST_SCALE = 1e-8

Init = str | Mapping[str, Any]
"""A name, or a value for each site. A fit is one too."""


@dataclass(frozen=True)
class Initial:
    """Where a fit begins.

    Attributes:
        values: constrained value of each latent that was given one.
        normal: a normal to begin at, in the flat unconstrained space; None for the guide's own scales.
    """

    values: Mapping[str, torch.Tensor]
    normal: Normal | None = None

    def init_loc_fn(self, site: Any) -> torch.Tensor:
        """The initial value of a site, as Pyro's automatic guides ask for it: given, or the median of prior draws."""
        found = self.values.get(site["name"])
        return init_to_prior_median(site) if found is None else found.clone()

    def point(self, program: Program, begin: np.ndarray) -> np.ndarray:
        """The flat unconstrained point: what was given, and `begin` elsewhere."""
        flat = begin.copy()
        for site in program.sites.latent:
            if site.name in self.values:
                place, _ = program.slices[site.name]
                free = biject_to(site.support).inv(self.values[site.name])
                flat[place] = free.detach().double().cpu().numpy().reshape(-1)
        return flat


def initial(init: "Init | Fit", program: Program, pathfinder: Callable[[], Normal]) -> Initial | None:
    """What the option `init` means for a program; None for the guide's own start.

    Args:
        init: "prior_median", "pathfinder", a constrained value by site, or a fit of the same model.
        program: the model with its data.
        pathfinder: finds the normal for the name "pathfinder".

    Raises:
        UnknownNameError: no such name, or the model has no such latent.
        DataError: a value has another shape than its site, or lies outside its support.
        OptionError: it is something else.
    """
    if isinstance(init, str):
        if init not in (PRIOR_MEDIAN, PATHFINDER):
            raise UnknownNameError("init", init, (PRIOR_MEDIAN, PATHFINDER))
        return None if init == PRIOR_MEDIAN else _at(program, pathfinder())
    if isinstance(init, Mapping):
        return Initial(_checked(init, program))
    if hasattr(init, "guide") and hasattr(init, "program"):
        return _at(program, normal_of_fit(init, program))
    raise OptionError(
        f"init: found {type(init).__name__}, wanted 'prior_median', 'pathfinder', a value for each site, or a fit."
    )


def normal_of_fit(fit: "Fit", program: Program) -> Normal:
    """The normal with a fit's means and covariances in the flat unconstrained space of a program.

    Raises:
        DataError: the fit is of another model.
    """
    latents = {site.name: tuple(site.shape) for site in program.sites.latent}
    found = {site.name: tuple(site.shape) for site in fit.program.sites.latent}
    if latents != found:
        raise DataError(f"init: the fit's latents are {found}, wanted the model's, {latents}.")
    dense = program.num_dims <= MAX_DENSE
    with fit.program.isolated(seed=0):
        draws, _ = latent_draws(fit.program, fit.guide, max(NUM_DRAWS, DRAWS_PER_DIM * program.num_dims))
    free = [biject_to(s.support).inv(draws[s.name]) for s in program.sites.latent]
    parts = [value.reshape(len(value), -1).double().cpu().numpy() for value in free]
    flat = np.concatenate(parts, axis=1)
    scale = np.maximum(flat.std(axis=0), SMALLEST_SCALE * (1.0 + np.abs(flat.mean(axis=0))))
    if not dense or fit.point:
        return Normal(flat.mean(axis=0), scale, -np.inf, 0)
    correlation = np.cov((flat / scale).T).reshape(program.num_dims, program.num_dims)
    root = np.linalg.cholesky(correlation + SMALLEST_SCALE * np.eye(program.num_dims))
    return Normal(flat.mean(axis=0), scale[:, None] * root, -np.inf, 0)


def _at(program: Program, normal: Normal) -> Initial:
    """The values at a normal's mean, with the normal."""
    flat = torch.as_tensor(normal.mean, dtype=program.dtype, device=program.device)
    with program.isolated(seed=0), torch.no_grad():
        values = program.constrain(flat)
    return Initial({site.name: values[site.name] for site in program.sites.latent}, normal)


def _checked(init: Mapping[str, Any], program: Program) -> dict[str, torch.Tensor]:
    sites = {site.name: site for site in program.sites.latent}
    values = {}
    for name, given in init.items():
        if name not in sites:
            raise UnknownNameError("init: latent", name, tuple(sites))
        values[name] = _value(given, sites[name], program)
    return values


def _value(given: Any, site: Site, program: Program) -> torch.Tensor:
    try:
        value = torch.as_tensor(given, dtype=program.dtype, device=program.device)
    except (TypeError, ValueError, RuntimeError):
        raise DataError(f"init: '{site.name}': found {type(given).__name__}, wanted numbers.") from None
    if value.shape != site.shape:
        raise DataError(f"init: '{site.name}': shape {tuple(value.shape)}, wanted {tuple(site.shape)}.")
    if not bool(site.support.check(value).all()):
        raise DataError(f"init: '{site.name}': a value lies outside its support, {site.support}.")
    return value.clone()
