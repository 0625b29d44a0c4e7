"""The exact posterior of each datum with one or two latents, by quadrature on a grid of its own."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ppl_models.errors import OptionError
from ppl_models.inference.by_datum.normals import Normals
from ppl_models.inference.by_datum.target import DatumTarget
from ppl_models.seeds import child_seed

MOST_DIMS = 2
LOOK, COARSE, FINEST = {1: 257, 2: 33}, {1: 257, 2: 65}, {1: 16_385, 2: 257}
"""Points along each axis: to narrow the box, at the first look and the first sum, and at most."""
LOOKS = 3
NEGLIGIBLE = 30.0
"""Nats below the highest point at which a density is left out."""
WIDE = 10.0
"""Standard deviations of the draws, and of the normals, that the first box holds."""
HELD = 7.0
"""Standard deviations of the normals that the last box holds, for their divergence."""
PRIOR_DRAWS = 256
MARGIN = 2
"""Cells of the last grid around all that is not negligible."""
ACCURATE = 1e-4
"""Nats between the grid and every other point of it; the grid itself is better by far, as such errors fall fast."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class GridPosteriors:
    """Posteriors by quadrature, in unconstrained coordinates.

    Attributes:
        log_evidence: log p(x), nats, shape (datum,).
        error: how much it changes when the step is halved, nats, shape (datum,).
        mean: shape (datum, dim).
        sd: shape (datum, dim).
        correlation: of two latents, shape (datum,); NaN of one.
        divergence: KL(q || p) of the normals given, nats, shape (datum,); NaN where none were.
        axes: the points along each axis, shape (datum, dim, point).
        density: of the posterior at the grid, shape (datum, point) or (datum, point, point); of the first axis first.
    """

    log_evidence: Array
    error: Array
    mean: Array
    sd: Array
    correlation: Array
    divergence: Array
    axes: Array
    density: Array


def grid_posteriors(
    target: DatumTarget, normals: Normals | None, draws: np.ndarray, *, seed: int = 0
) -> GridPosteriors:
    """Integrate the joint density of each datum over its latents.

    The first box holds draws of the prior, the draws given and the normals, with room to spare; the next what is not
    negligible there, and the draws still: of two narrow modes, coarse points may see one. The step is then halved until
    log p(x) does not change. Points at equal distances are accurate beyond all powers of the step, where a smooth
    density is negligible at the ends of its box.

    Args:
        target: log p(x, z) of each datum, of one or two latents.
        normals: q of each datum, for its divergence from the posterior; None leaves it out.
        draws: about where the posteriors are, unconstrained, shape (draw, datum, dim).
        seed: of the draws of the prior.

    Raises:
        OptionError: a datum has more than two latents.
    """
    if target.num_dims > MOST_DIMS:
        raise OptionError(f"grid: a datum has {target.num_dims} latents, and quadrature takes one or two.")
    low, high = _first_box(target, normals, draws, seed)
    for count in (COARSE[target.num_dims], *(LOOK[target.num_dims],) * (LOOKS - 1)):
        low, high = _tightened(_values(target, low, high, count), low, high, draws)
    if normals is not None:
        mean, reach = (one.double().cpu().numpy() for one in (normals.mean, HELD * normals.sd))
        low, high = np.minimum(low, mean - reach), np.maximum(high, mean + reach)
    count = COARSE[target.num_dims]
    while True:
        values = _values(target, low, high, count)
        evidence = _log_evidence(values, low, high)
        halves = values[:, ::2] if target.num_dims == 1 else values[:, ::2, ::2]
        error = np.abs(evidence - _log_evidence(halves, low, high))
        if error.max() < ACCURATE or count >= FINEST[target.num_dims]:
            return _found(values, low, high, evidence, error, normals)
        count = 2 * count - 1


def _first_box(target: DatumTarget, normals: Normals | None, draws: np.ndarray, seed: int) -> tuple[Array, Array]:
    """Ends of the box along each axis, both of shape (datum, dim)."""
    prior = target.prior.drawn(PRIOR_DRAWS, child_seed(seed, "prior")).points.double().cpu().numpy()
    centres = [(prior.mean(0), 0.5 * WIDE * prior.std(0)), (draws.mean(0), WIDE * draws.std(0))]
    if normals is not None:
        centres.append((normals.mean.double().cpu().numpy(), WIDE * normals.sd.double().cpu().numpy()))
    return (
        np.min([centre - reach for centre, reach in centres], axis=0),
        np.max([centre + reach for centre, reach in centres], axis=0),
    )


def _axes(low: Array, high: Array, count: int) -> Array:
    return low[..., None] + (high - low)[..., None] * np.linspace(0.0, 1.0, count)


def _values(target: DatumTarget, low: Array, high: Array, count: int) -> Array:
    """Log joint densities at the grid, shape (datum, point) or (datum, point, point)."""
    axes = _axes(low, high, count)
    dims = axes.shape[1]
    if dims == 1:
        points = axes.transpose(2, 0, 1)
    else:
        first, second = np.repeat(axes[:, 0], count, axis=1), np.tile(axes[:, 1], (1, count))
        points = np.stack([first.T, second.T], axis=-1)
    parts = [target(part)[0] for part in target.tensor(points).split(65_536)]
    found = torch.cat(parts).double().cpu().numpy()
    return found.T.reshape(len(low), *(count,) * dims)


def _tightened(values: Array, low: Array, high: Array, draws: np.ndarray) -> tuple[Array, Array]:
    """The box around what is not negligible and the draws, which may also grow where that reaches its ends."""
    dims, count = low.shape[1], values.shape[1]
    step = (high - low) / (count - 1)
    kept = values > values.reshape(len(values), -1).max(1).reshape(-1, *(1,) * dims) - NEGLIGIBLE
    new_low, new_high = low.copy(), high.copy()
    first_drawn, last_drawn = np.floor((draws.min(0) - low) / step), np.ceil((draws.max(0) - low) / step)
    for axis in range(dims):
        others = tuple(1 + other for other in range(dims) if other != axis)
        along = kept.any(axis=others) if others else kept
        first, last = along.argmax(1), count - 1 - along[:, ::-1].argmax(1)
        first = np.clip(np.minimum(first, first_drawn[:, axis]), 0, None)
        last = np.clip(np.maximum(last, last_drawn[:, axis]), None, count - 1)
        grow = 0.5 * (high - low)[:, axis]
        new_low[:, axis] = low[:, axis] + np.where(first == 0, -grow, (first - MARGIN) * step[:, axis])
        new_high[:, axis] = low[:, axis] + (last + MARGIN) * step[:, axis] + np.where(last == count - 1, grow, 0.0)
    return new_low, new_high


def _log_evidence(values: Array, low: Array, high: Array) -> Array:
    flat = values.reshape(len(values), -1)
    top = flat.max(1)
    cell = np.log((high - low) / (values.shape[1] - 1)).sum(1)
    with np.errstate(invalid="ignore"):  # without density anywhere there is none to find
        return top + np.log(np.exp(flat - top[:, None]).sum(1)) + cell


def _found(
    values: Array, low: Array, high: Array, evidence: Array, error: Array, normals: Normals | None
) -> GridPosteriors:
    dims, count = low.shape[1], values.shape[1]
    axes = _axes(low, high, count)
    wide = (slice(None), *(None,) * dims)
    density = np.exp(values - evidence[wide])
    cell = ((high - low) / (count - 1)).prod(1)
    weight = density * cell[wide]
    marginals = [weight] if dims == 1 else [weight.sum(2), weight.sum(1)]
    mean = np.stack([(marginal * axes[:, i]).sum(1) for i, marginal in enumerate(marginals)], axis=1)
    away = axes - mean[..., None]
    sd = np.sqrt(np.stack([(marginal * away[:, i] ** 2).sum(1) for i, marginal in enumerate(marginals)], axis=1))
    correlation = np.full(len(values), math.nan)
    if dims == 2:
        correlation = np.einsum("nij,ni,nj->n", weight, away[:, 0], away[:, 1]) / sd.prod(1)
    divergence = np.full(len(values), math.nan)
    if normals is not None:
        divergence = _divergence(values - evidence[wide], axes, cell, normals)
    return GridPosteriors(evidence, error, mean, sd, correlation, divergence, axes, density)


def _divergence(log_posterior: Array, axes: Array, cell: Array, normals: Normals) -> Array:
    """KL(q || p) by the same grid, whose box holds the normals as well."""
    dims = axes.shape[1]
    mean, factor = normals.mean.double().cpu().numpy(), normals.factor.double().cpu().numpy()
    away = axes - mean[..., None]
    if dims == 1:
        offsets = away[:, 0][..., None]
    else:
        first, second = np.broadcast_arrays(away[:, 0][:, :, None], away[:, 1][:, None, :])
        offsets = np.stack([first, second], axis=-1)
    flat = offsets.reshape(len(axes), -1, dims)
    noise = np.linalg.solve(factor[:, None], flat[..., None])[..., 0]
    log_q = -0.5 * (noise**2).sum(-1) - 0.5 * dims * math.log(2.0 * math.pi) - np.log(np.linalg.det(factor))[:, None]
    weight = np.exp(log_q) * cell[:, None]
    return (weight * (log_q - log_posterior.reshape(len(axes), -1))).sum(1)
