"""`ppl.traverse`: what each latent dimension does to the data."""

from typing import Any

import numpy as np
import torch
import xarray as xr

from ppl_models.errors import DataError
from ppl_models.inference import Fit
from ppl_models.options import check_count, check_positive
from ppl_models.posterior import Labels
from ppl_models.seeds import check_seed, child_seed
from ppl_models.workflow.representation.coordinates import RowCoordinates
from ppl_models.workflow.representation.decoding import decoded
from ppl_models.workflow.representation.drawing import local_draws, shared_draws
from ppl_models.workflow.representation.given_latents import latents_given
from ppl_models.workflow.representation.interpolate import continuous
from ppl_models.workflow.representation.new_rows import is_data, rows_to_decode, rows_to_encode
from ppl_models.workflow.representation.paths import (
    at_points,
    decode_points,
    dims_with,
    flat_draws,
    repeated,
    with_axis,
)
from ppl_models.workflow.representation.representation import BATCH_SIZE, Representation, representation_of
from ppl_models.workflow.representation.results import host, made_by, row_labels, tree_of

PRIOR_DRAWS = 1_000
SHARED_DRAWS = 20


def traverse(
    fit: Fit,
    *,
    centre: Any = None,
    num_steps: int = 9,
    span: float = 3.0,
    data: Any = None,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
) -> xr.DataTree:
    """Move along one latent dimension at a time and decode.

    Args:
        fit: what `ppl.fit` returned, with an amortised guide.
        centre: where the axes cross: one row of data, x[:1], whose latents' mean is taken, or one row of latents, as
            `ppl.encode(fit, x[:1])["mean"]`; None takes the prior's mean.
        num_steps: points along each axis; odd numbers have the centre among them.
        span: how far to go to either side, in standard deviations of the prior.
        data: covariates, one row, for models that have any; None takes those of `centre`, if it is data.
        seed: of the prior's draws, and of those of latents that all rows share.
        batch_size: points that are worked on at once.

    Returns:
        A tree with the groups mean: the likelihood's mean, dims (latent, step, *event without the row); latents: the
        latents at each point. All other latents stay at the centre, those of layers below too, so that a layer that the
        data see only through another moves nothing. The coordinate of `latent` names the dimension, as "z[0]", that of
        `step` the prior's standard deviations from the centre; either axis has "_" after its name where the model calls
        a site or a plate so. Latents are moved in unconstrained coordinates.

    Raises:
        OptionError: an option is out of its range.
        DataError: the centre is not one row, or covariates are missing.
        ModelError: a latent is discrete, or its support depends on another.
        GuideError: the guide is not amortised.
    """
    check_count("num_steps", num_steps, least=2)
    check_positive("span", span)
    check_count("batch_size", batch_size)
    representation = representation_of(fit)
    coordinates = continuous(representation)
    count = SHARED_DRAWS if representation.rows.outside else 1
    shared = shared_draws(representation, count, check_seed(seed))
    middle, known = None, None
    if centre is not None:
        middle, known = _centre(representation, coordinates, centre, seed)
    new = rows_to_decode(representation, known if data is None else data, 1)
    prior = _prior(representation, coordinates, representation.at(new.arguments), seed)
    middle, scale = prior.mean(0) if middle is None else middle, prior.std(0)
    offsets = torch.linspace(-span, span, num_steps).to(scale)
    moves = torch.diag_embed(scale)[:, None] * offsets[:, None]
    points = (middle + moves).reshape(1, -1, len(scale))
    values = at_points(representation, coordinates, points)
    every = repeated(representation, new, points.shape[1])
    drawn = {**shared, **{name: value.expand(count, *value.shape[1:]) for name, value in values.items()}}
    _, flat = decode_points(representation, every, drawn, count, seed, batch_size)
    flat = {"mean": flat["mean"], "latents": {name: host(value[0]) for name, value in values.items()}}
    labels = row_labels(representation, representation.program, 1, own=False)
    latent, step = labels.free("latent"), labels.free("step")
    dims = {**labels.labels.dims, **dims_with(representation, labels, (latent, step), keep=False)}
    coords = {**labels.labels.coords, latent: coordinates.names(), step: np.linspace(-span, span, num_steps)}
    options = {"num_steps": num_steps, "span": span, "seed": seed}
    sizes = (len(scale), num_steps)
    attrs = made_by(representation, "traverse", options)
    return tree_of({}, with_axis(representation, flat, sizes, 0), Labels(coords, dims), attrs)


def _prior(representation: Representation, coordinates: RowCoordinates, fit: Fit, seed: int) -> torch.Tensor:
    """Unconstrained draws of one row's latents from the prior, shape (draw, dim)."""
    shared = shared_draws(representation, PRIOR_DRAWS, child_seed(seed, "prior"))
    unknown = representation.rows.observed
    found = decoded(
        fit, representation.rows, shared, PRIOR_DRAWS, child_seed(seed, "prior"), unknown=unknown, wanted=()
    )
    return flat_draws(representation, coordinates, found.latents)[:, 0]


def _centre(
    representation: Representation, coordinates: RowCoordinates, centre: Any, seed: int
) -> tuple[torch.Tensor, dict[str, Any] | None]:
    """Unconstrained latents of one row, shape (dim,), and its covariates where it is data."""
    if not is_data(representation, centre):
        given = latents_given(representation, centre, where="centre")
        _check_one(given.num_rows)
        return flat_draws(representation, coordinates, given.values)[:, 0].mean(0), None
    _, new = rows_to_encode(representation, centre)
    _check_one(new.num_rows)
    shared = shared_draws(representation, PRIOR_DRAWS, seed)
    draws, _ = local_draws(representation.at(new.arguments), representation.rows, PRIOR_DRAWS, seed, shared)
    covariates = {name: new.arguments.named()[name] for name in representation.inputs}
    return flat_draws(representation, coordinates, draws)[:, 0].mean(0), covariates or None


def _check_one(num_rows: int) -> None:
    if num_rows != 1:
        raise DataError(f"centre: found {num_rows} rows, wanted one.")
