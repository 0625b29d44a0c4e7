"""`ppl.interpolate`: the way from one row to another through the latent space."""

from typing import Any

import numpy as np
import torch
import xarray as xr

from ppl_models.errors import DataError, ModelError
from ppl_models.inference import Fit
from ppl_models.options import check_choice, check_count
from ppl_models.posterior import Labels
from ppl_models.seeds import check_seed, child_seed
from ppl_models.workflow.representation.coordinates import RowCoordinates
from ppl_models.workflow.representation.drawing import Draws, local_draws, shared_draws
from ppl_models.workflow.representation.given_latents import GivenLatents, latents_given
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

SPHERICAL, LINEAR = "spherical", "linear"
NEARLY_PARALLEL = 1e-6


def interpolate(
    fit: Fit,
    start: Any,
    end: Any,
    *,
    num_steps: int = 9,
    kind: str = SPHERICAL,
    data: Any = None,
    num_draws: int = 100,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
) -> xr.DataTree:
    """Decode points on the way from some rows to others, with the uncertainty of both ends.

    Args:
        fit: what `ppl.fit` returned, with an amortised guide.
        start: rows of data, or latents, as `ppl.decode` takes them. One array is told by its shape.
        end: as many rows or latents.
        num_steps: points on the way, both ends among them; at least 2.
        kind: "spherical" keeps to the lengths between those of the ends, where a normal prior has its mass; "linear"
            is the straight line. Both in unconstrained coordinates, all latents of a row as one vector.
        data: covariates along the way, for models that have any; None takes those of `start`, if it is data.
        num_draws: draws of the latents at ends that are data.
        seed: of the draws.
        batch_size: rows that are worked on at once, which bounds memory.

    Returns:
        A tree with the groups likelihood_mean and posterior_predictive, dims (chain = 1, draw, step, *event); mean and
        sd of the likelihood's mean over the draws, dims (step, *event); posterior: the latents on the way. The
        coordinate of `step` is the fraction of the way; the axis is `step_` where the model calls a site or plate so.

    Raises:
        OptionError, UnknownNameError: an option is out of its range.
        DataError: the ends have a wrong shape or different numbers of rows, or covariates are missing.
        ModelError: a latent is discrete, or its support depends on another.
        GuideError: the guide is not amortised.

    White (2016), Sampling generative networks (spherical interpolation).
    """
    check_choice("kind of interpolation", kind, (SPHERICAL, LINEAR))
    check_count("num_steps", num_steps, least=2)
    check_count("num_draws", num_draws)
    check_count("batch_size", batch_size)
    representation = representation_of(fit)
    coordinates = continuous(representation)
    shared = shared_draws(representation, num_draws, check_seed(seed))
    ends = [
        _end(representation, which, value, num_draws, child_seed(seed, which), shared)
        for which, value in (("start", start), ("end", end))
    ]
    if ends[0].num_rows != ends[1].num_rows:
        raise DataError(f"interpolate: found {ends[0].num_rows} rows at the start and {ends[1].num_rows} at the end.")
    drawn = bool(shared) or any(one.drawn for one in ends)
    count = num_draws if drawn else 1
    first, last = (flat_draws(representation, coordinates, one.repeated(count)) for one in ends)
    fractions = torch.linspace(0, 1, num_steps).to(first)
    path = torch.stack([_between(first, last, fraction, kind) for fraction in fractions], dim=1).flatten(1, 2)
    values = at_points(representation, coordinates, path)
    if data is None and is_data(representation, start):
        data = _covariates(representation, start)
    new = repeated(representation, rows_to_decode(representation, data, ends[0].num_rows), num_steps)
    groups, flat = decode_points(representation, new, {**shared, **values}, count, seed, batch_size)
    groups["posterior"] = {name: host(value) for name, value in values.items()}
    sizes = (num_steps, ends[0].num_rows)
    labels = row_labels(representation, representation.program, ends[0].num_rows, own=False)
    step = labels.free("step")
    dims = dims_with(representation, labels, (step,), keep=True)
    options = {"kind": kind, "num_steps": num_steps, "num_draws": count, "seed": seed}
    return tree_of(
        with_axis(representation, groups, sizes, 1),
        with_axis(representation, flat, sizes, 0),
        Labels({**labels.labels.coords, step: np.linspace(0, 1, num_steps)}, {**labels.labels.dims, **dims}),
        made_by(representation, "interpolate", options),
    )


def continuous(representation: Representation) -> RowCoordinates:
    """Unconstrained coordinates of the latents.

    Raises:
        ModelError: a latent is discrete, or its support depends on another.
    """
    coordinates = RowCoordinates(representation, representation.program)
    if not coordinates.exists:
        raise ModelError(
            f"latents {', '.join(representation.rows.latents)}: one is discrete, or its support depends on another, so "
            "that there is no way between two values. Decode the values of interest: ppl.decode(fit, latents)."
        )
    return coordinates


def _end(
    representation: Representation, where: str, value: Any, num_draws: int, seed: int, shared: Draws
) -> GivenLatents:
    if not is_data(representation, value):
        return latents_given(representation, value, where=where)
    at, new = rows_to_encode(representation, value)
    draws, _ = local_draws(at.at(new.arguments), at.rows, num_draws, seed, shared)
    return GivenLatents(draws, new.num_rows, num_draws, drawn=True)


def _covariates(representation: Representation, data: Any) -> dict[str, Any] | None:
    _, new = rows_to_encode(representation, data)
    return {name: new.arguments.named()[name] for name in representation.inputs} or None


def _between(start: torch.Tensor, end: torch.Tensor, fraction: torch.Tensor, kind: str) -> torch.Tensor:
    """A point between vectors, along the last axis; spherical where they span a plane.

    The direction goes at an even pace along the great circle, the length from one to the other: White's formula with
    the vectors themselves in it passes far outside of both where they point nearly opposite ways.
    """
    straight = start + fraction * (end - start)
    if kind == LINEAR:
        return straight
    lengths = [_length(one) for one in (start, end)]
    units = [one / length for one, length in zip((start, end), lengths, strict=True)]
    # the arc cosine loses half of the digits near both ends
    angle = 2 * torch.atan2(_length(units[1] - units[0]), _length(units[1] + units[0]))
    sine = torch.sin(angle)
    direction = (torch.sin((1 - fraction) * angle) * units[0] + torch.sin(fraction * angle) * units[1]) / sine
    curved = (lengths[0] + fraction * (lengths[1] - lengths[0])) * direction
    return torch.where((sine > NEARLY_PARALLEL) & (lengths[0] * lengths[1] > 0.0), curved, straight)


def _length(vectors: torch.Tensor) -> torch.Tensor:
    return torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
