"""`ppl.sample_prior`: draws of the prior and of the data it predicts."""

from collections.abc import Callable
from typing import Any

import torch
import xarray as xr

from ppl_models.inference.private import private_copy
from ppl_models.options import check_count
from ppl_models.posterior import Coords, Dims, Labels, prior_tree
from ppl_models.program import Data, build_program
from ppl_models.seeds import check_seed, child_seed
from ppl_models.versions import versions


def sample_prior(
    model: Callable[..., Any],
    data: Data,
    *,
    num_draws: int = 1_000,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    coords: Coords | None = None,
    dims: Dims | None = None,
) -> xr.DataTree:
    """Draw latents from the prior, and data from each draw.

    Args:
        model: a Pyro model.
        data: what it is called with; observed arguments may be given or None.
        num_draws: number of draws.
        seed: seed of the draws.
        dtype: floating dtype.
        coords: labels of the elements along each dim.
        dims: names of a site's axes, with "_plate" after a name that is a site's or ArviZ's own
            ("draw_plate").

    Returns:
        A tree with the groups prior, prior_predictive, observed_data and constant_data; dims chain = 1, draw, *event.
    """
    check_count("num_draws", num_draws)
    program = build_program(private_copy(model, {}, dtype), data, dtype=dtype, seed=check_seed(seed))
    attrs = {"inference_library": "ppl-models", "inference_library_version": versions().get("ppl-models", "")}
    return prior_tree(program, Labels(coords or {}, dims or {}), num_draws, child_seed(seed, "prior"), attrs)
