"""What a fit is judged on: a model with its data, the true moments of its posterior, and draws for a baseline."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

Moments = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""Parameter -> mean and sd, each of the parameter's shape; of its logarithm where the subject says so."""

NUM_TRUTH = 20_000
"""Draws of a guide that its true errors are measured with: a mean to 0.007 sd, an sd to 0.5 % where it is normal."""


@dataclass(frozen=True)
class Mode:
    """One mode of a posterior in the unconstrained space: mean (dim,) and covariance (dim, dim)."""

    mean: np.ndarray
    covariance: np.ndarray


@dataclass(frozen=True)
class Subject:
    """A problem with what is known of its posterior.

    Attributes:
        name: of the problem.
        group: "catalogue", "posteriordb" or "closed_form".
        model: a Pyro model, `model(**data)`.
        data: argument -> value.
        moments: the truth.
        log_scale: parameters whose logarithm the moments are of: their own variance is infinite.
        draws: draws of the posterior, parameter -> shape (chain, draw, *shape); all latents of the model among them.
        handwritten: a guide written for the problem, None where there is none.
        mode: the heaviest mode, where there are several that are far apart.
        has_likelihood: whether the model observes anything.
        num_truth: draws that true errors are measured with.
    """

    name: str
    group: str
    model: Callable[..., Any]
    data: Mapping[str, Any]
    moments: Moments
    draws: Mapping[str, np.ndarray] = field(repr=False)
    log_scale: tuple[str, ...] = ()
    handwritten: Callable[..., Any] | None = None
    mode: Mode | None = None
    has_likelihood: bool = True
    num_truth: int = NUM_TRUTH

    def baseline(self) -> xr.DataTree:
        """The draws as a baseline that `ppl_models.check` takes."""
        variables = {
            name: (("chain", "draw", *(f"{name}_dim_{axis}" for axis in range(values.ndim - 2))), values)
            for name, values in self.draws.items()
        }
        return xr.DataTree.from_dict({"posterior": xr.Dataset(variables)})
