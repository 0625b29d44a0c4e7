"""Rows of data, and what the encoder says of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from ppl_models.errors import GuideError
from ppl_models.inference import Fit
from ppl_models.program import Arguments
from ppl_models.workflow.representation.coordinates import RowCoordinates
from ppl_models.workflow.representation.encode import encode
from ppl_models.workflow.representation.generate import generate
from ppl_models.workflow.representation.paths import flat_draws
from ppl_models.workflow.representation.representation import Representation

Array = NDArray[np.float64]
Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Encoded:
    """Draws of q(z | x) at some rows.

    Attributes:
        points: unconstrained latents, shape (draw, row, unit).
        values: latents by site, constrained, shape (draw, *event).
        log_prior: log p(z) in nats, shape (draw, row).
        log_likelihood: log p(x | z), shape (draw, row).
        log_q: log q(z | x), shape (draw, row).
        labels: of the units, as "z[0]".
    """

    points: Array = field(repr=False)
    values: Tensors = field(repr=False)
    log_prior: Array = field(repr=False)
    log_likelihood: Array = field(repr=False)
    log_q: Array = field(repr=False)
    labels: tuple[str, ...]

    @property
    def log_weight(self) -> Array:
        """Log p(x, z) - log q(z | x) in nats, shape (draw, row)."""
        return self.log_prior + self.log_likelihood - self.log_q


@dataclass(frozen=True)
class Generated:
    """Rows that the model made itself.

    Attributes:
        points: their latents, unconstrained, shape (row, unit).
        latents: the same by site, constrained, shape (*event).
        data: the arguments of the model that hold these rows; None where an observed site is not an argument's value.
        observed: by observed site, shape (row, feature).
    """

    points: Array = field(repr=False)
    latents: Tensors = field(repr=False)
    data: Tensors | None = field(repr=False)
    observed: Mapping[str, Array] = field(repr=False)

    def first(self, representation: Representation, number: int) -> "Generated":
        """The first rows."""
        return Generated(
            self.points[:number],
            {name: value.narrow(representation.axis(name), 0, number) for name, value in self.latents.items()},
            None if self.data is None else {name: value[:number] for name, value in self.data.items()},
            {name: value[:number] for name, value in self.observed.items()},
        )


def rows_of(representation: Representation, arguments: Arguments) -> dict[str, torch.Tensor]:
    """The arguments with a row for each datum, by name."""
    return {name: arguments.named()[name] for name in representation.rows.tensors}


def encoded(
    representation: Representation, coordinates: RowCoordinates, data: Tensors, num_draws: int, seed: int
) -> Encoded:
    """Encode rows.

    Raises:
        GuideError: the guide has no density for each row.
    """
    tree = encode(representation.fit, dict(data), num_draws=num_draws, seed=seed)
    stats = dataset(tree, "sample_stats")
    if "log_q" not in stats:
        raise GuideError(
            f"guide '{representation.fit.guide_name}' has no density of its own for each row, so that there is nothing "
            "to audit. Fit an amortised guide: guides.amortized(model)."
        )
    values = _latents(representation, dataset(tree, "posterior"))
    points = flat_draws(representation, coordinates, values)
    log_prior, log_likelihood, log_q = (
        np.asarray(stats[name].values[0], dtype=float) for name in ("log_prior", "log_likelihood", "log_q")
    )
    return Encoded(_array(points), values, log_prior, log_likelihood, log_q, tuple(coordinates.names()))


def generated(
    representation: Representation, coordinates: RowCoordinates, covariates: Tensors, num_rows: int, seed: int
) -> Generated:
    """Draw rows from the model: latents from the prior, data at them.

    Args:
        representation: of the fit.
        coordinates: of its latents.
        covariates: rows of every argument with rows; those that the model conditions on are kept.
        num_rows: how many; covariates are repeated where there are fewer.
        seed: of the draws.
    """
    index = torch.arange(num_rows) % len(next(iter(covariates.values())))
    given = {name: value[index] for name, value in covariates.items()}
    inputs = {name: given[name] for name in representation.inputs}
    tree = generate(representation.fit, num_rows, data=inputs or None, seed=seed)
    latents = _latents(representation, dataset(tree, "prior"))
    drawn = dataset(tree, "prior_predictive")
    data: dict[str, torch.Tensor] | None = dict(given)
    observed = {}
    for site in representation.rows.observed:
        values = np.asarray(drawn[site].values[0, 0])
        observed[site] = _by_row(values, representation.axis(site))
        if site not in representation.observing:
            data = None
        elif data is not None:
            name = representation.observing[site]
            data[name] = torch.from_numpy(values.copy()).to(given[name]).reshape(given[name].shape)
    points = flat_draws(representation, coordinates, latents)[0]
    return Generated(_array(points), {name: value[0] for name, value in latents.items()}, data, observed)


def observed_features(fit: Fit, representation: Representation) -> dict[str, Array]:
    """The observed sites of a fit's own rows, each of shape (row, feature)."""
    program = fit.program
    return {
        name: _by_row(program.observed_values[name].expand(program.sites[name].shape).cpu().numpy(), axis)
        for name in representation.rows.observed
        for axis in (representation.axis(name),)
    }


def dataset(tree: xr.DataTree, group: str) -> xr.Dataset:
    """The variables of a group."""
    found: Any = tree[group]
    return found.to_dataset()


def _latents(representation: Representation, group: xr.Dataset) -> dict[str, torch.Tensor]:
    program = representation.program
    found = {}
    for name in representation.rows.latents:
        values = torch.from_numpy(np.array(group[name].values[0]))
        found[name] = values.to(program.device)
    return found


def _by_row(values: np.ndarray, axis: int) -> Array:
    return np.moveaxis(np.asarray(values, dtype=float), axis, 0).reshape(values.shape[axis], -1)


def _array(values: torch.Tensor) -> Array:
    return values.detach().double().cpu().numpy()
