"""Where a reverse run begins: draws of the posterior, exact or nearly so."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from arviz_stats.base import array_stats

from ppl_models.errors import DataError, UnknownNameError
from ppl_models.inference.draws import unconstrained
from ppl_models.inference.evidence.posterior_points import posterior_points
from ppl_models.program import Program

Draws = xr.DataTree | Mapping[str, Any] | np.ndarray | torch.Tensor
FEWEST_FOR_RHAT = 8
"""Draws of a chain."""


@dataclass(frozen=True)
class PosteriorDraws:
    """Draws of the posterior, as they were given.

    Attributes:
        points: unconstrained, shape (draw, dim).
        exact: whether each is distributed as the posterior itself.
        rhat: the largest over the dims, between the chains and their halves; NaN where it cannot be had.
        what: what they are, in a few words.
    """

    points: np.ndarray
    exact: bool
    rhat: float
    what: str

    def shared(self, count: int) -> bool:
        """Whether so many chains share starts, as fewer draws than chains were given."""
        return len(self.points) < count

    def chosen(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """So many of them, shape (draw, dim): without repetition where there are enough."""
        return self.points[rng.choice(len(self.points), count, replace=self.shared(count))]


def posterior_draws(program: Program, draws: Draws, exact: bool | None) -> PosteriorDraws:
    """Draws as points of a program's flat space.

    Args:
        program: the model with its data.
        draws: a tree with the group "posterior"; values by site, of the site's shape (one draw) or with axes (draw,) or
            (chain, draw) before it; or unconstrained points, shape (dim,), (draw, dim) or (chain, draw, dim).
        exact: whether they are independent draws of the posterior itself. None takes one draw for the latents from
            which the data were simulated, which is an exact one, and many for draws by MCMC.

    Raises:
        DataError: they are not of this model.
    """
    if isinstance(draws, xr.DataTree):
        chains, single = posterior_points(program, draws), False
    elif isinstance(draws, Mapping):
        chains, single = _from_values(program, draws)
    elif isinstance(draws, (np.ndarray, torch.Tensor)):
        chains, single = _from_points(program, draws)
    else:
        raise DataError(
            f"draws: found {type(draws).__name__}, wanted a DataTree from ppl.sample, values by site, or an array."
        )
    points = chains.reshape(-1, program.num_dims)
    if not np.isfinite(points).all():
        raise DataError("draws: some are not finite, or lie on the edge of or outside a site's support.")
    is_exact = single if exact is None else exact
    if is_exact:
        what = "the latents that made the data" if single else f"{len(points):,} exact draws"
        return PosteriorDraws(points, True, math.nan, what)
    return PosteriorDraws(points, False, _rhat(chains), f"{len(points):,} MCMC draws")


def _from_points(program: Program, draws: np.ndarray | torch.Tensor) -> tuple[np.ndarray, bool]:
    found = draws.detach().cpu().numpy() if isinstance(draws, torch.Tensor) else draws
    if found.ndim not in (1, 2, 3) or found.shape[-1] != program.num_dims or not found.size:
        raise DataError(
            f"draws: shape {found.shape}, wanted unconstrained points of length {program.num_dims}, shape (dim,), "
            "(draw, dim) or (chain, draw, dim)."
        )
    chains = len(found) if found.ndim == 3 else 1
    return found.astype(float).reshape(chains, -1, program.num_dims), found.ndim == 1


def _from_values(program: Program, draws: Mapping[str, Any]) -> tuple[np.ndarray, bool]:
    flat, leading = {}, set()
    for site in program.sites.latent:
        if site.name not in draws:
            raise UnknownNameError("latent in draws", site.name, draws)
        value = torch.as_tensor(draws[site.name], dtype=program.dtype, device=program.device).detach()
        extra = value.dim() - len(site.shape)
        if extra not in (0, 1, 2) or value.shape[extra:] != site.shape:
            raise DataError(
                f"draws of '{site.name}': shape {tuple(value.shape)}, wanted {tuple(site.shape)}, with an axis of "
                "draws or axes (chain, draw) before it where there are many."
            )
        leading.add(tuple(value.shape[:extra]))
        flat[site.name] = value.reshape(-1, *site.shape)
    if len(leading) > 1:
        raise DataError(f"draws: the sites differ in their axes of draws: {sorted(leading)}.")
    first = next(iter(leading))
    with program.isolated(seed=0):
        points = unconstrained(program, flat)
    return points.reshape(first[0] if len(first) == 2 else 1, -1, program.num_dims), not first


def _rhat(chains: np.ndarray) -> float:
    if chains.shape[1] < FEWEST_FOR_RHAT:
        return math.nan
    found: Any = array_stats.rhat(np.moveaxis(chains, -1, 0), chain_axis=-2, draw_axis=-1)
    return float(np.max(found))
