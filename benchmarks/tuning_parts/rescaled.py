"""Regressions in other units: columns and response multiplied, and the priors of what they multiply along with them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any

import numpy as np
import pyro.distributions as dist
import torch
from pyro.poutine.messenger import Messenger

from benchmarks.tuning_parts.gaussian import Gaussian
from ppl_models.program import Program

UP, DOWN = 1e6, 1e-6
COEFFICIENTS = ("beta", "b", "coefficients")
LIKE_RESPONSE = ("sigma", "Intercept")
POSITIVE = ("sigma",)


@dataclass(frozen=True)
class Units:
    """Factors of a regression's data.

    Attributes:
        columns: of the covariates, shape (column,); one for a column of ones, which has no unit.
        response: of the response; one where that is a class.
    """

    columns: torch.Tensor
    response: float


def units(variant: str, x: torch.Tensor, *, continuous: bool) -> Units:
    """The factors of a variant: all columns "up" or "down", or "mixed", every other one up and the response down.

    Args:
        variant: its name.
        x: covariates, shape (row, column).
        continuous: whether the response has a unit.
    """
    every = range(x.shape[1])
    chosen = {
        "up": [UP for _ in every],
        "down": [DOWN for _ in every],
        "mixed": [(UP, DOWN)[column % 2] for column in every],
    }[variant]
    factors = torch.tensor(chosen, dtype=torch.float64)
    factors = factors.where(~(x == 1.0).all(dim=0), 1.0)
    response = {"up": UP, "down": DOWN, "mixed": DOWN}[variant]
    return Units(factors, response if continuous else 1.0)


def site_factors(names: list[str], found: Units) -> dict[str, torch.Tensor]:
    """By what each latent of a regression is multiplied."""
    response = torch.tensor(found.response, dtype=torch.float64)
    factors = {}
    for name in names:
        if name in COEFFICIENTS:
            factors[name] = response / found.columns
        elif name in LIKE_RESPONSE:
            factors[name] = response
    return factors


def rescaled(
    model: Callable[..., Any], data: Mapping[str, Any], found: Units, factors: Mapping[str, torch.Tensor]
) -> tuple[Callable[..., Any], dict[str, Any]]:
    """A regression and its data, `x` and `y`, in other units; flat priors have none."""

    @wraps(model)
    def other(*args: Any, **kwargs: Any) -> Any:
        with ScaledPriors(factors):
            return model(*args, **kwargs)

    return other, {**data, "x": data["x"] * found.columns, "y": data["y"] * found.response}


class ScaledPriors(Messenger):
    """Give each latent the distribution of a multiple of it.

    Args:
        factors: by latent; of the latent's shape, or one number.
    """

    def __init__(self, factors: Mapping[str, torch.Tensor]):
        super().__init__()
        self.factors = factors

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.factors and not msg["is_observed"]:
            msg["fn"] = scaled(msg["fn"], self.factors[msg["name"]])


def scaled(prior: Any, factor: torch.Tensor) -> Any:
    """The distribution of factor * x; the flat priors of posteriordb stay as they are, their starting values too."""
    if isinstance(prior, dist.MaskedDistribution):
        return prior
    if isinstance(prior, dist.Independent):
        return dist.Independent(scaled(prior.base_dist, factor), prior.reinterpreted_batch_ndims)
    if isinstance(prior, dist.FoldedDistribution):
        return dist.FoldedDistribution(scaled(prior.base_dist, factor))
    if isinstance(prior, dist.HalfNormal | dist.HalfCauchy):
        return type(prior)(prior.scale * factor)
    if isinstance(prior, dist.Normal):
        return dist.Normal(prior.loc * factor, prior.scale * factor)
    if isinstance(prior, dist.StudentT):
        return dist.StudentT(prior.df, prior.loc * factor, prior.scale * factor)
    raise TypeError(f"scaled: found {type(prior).__name__}, which nothing here knows how to multiply.")


def in_first_units(program: Program, gaussian: Gaussian, factors: Mapping[str, torch.Tensor]) -> Gaussian:
    """A normal guide of the rescaled model as one of the model in its first units; positive latents are logarithms."""
    factor, shift = np.ones(program.num_dims), np.zeros(program.num_dims)
    for name, (place, _) in program.slices.items():
        if name in POSITIVE:
            shift[place] = -np.log(float(factors[name]))
        elif name in factors:
            factor[place] = 1.0 / factors[name].numpy().reshape(-1)
    return gaussian.affine(factor, shift)
