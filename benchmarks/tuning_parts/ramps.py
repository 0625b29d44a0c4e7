"""(d) Hand-written guides that have far to go: no fit may say that it has converged before it is there."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch.distributions import constraints

import ppl_models as ppl
from benchmarks.tuning_parts.default_fits import described
from benchmarks.tuning_parts.rules import Row, false_end


@dataclass(frozen=True)
class Ramp:
    """A target Normal(away, width) with a guide that begins at Normal(0, begin).

    Attributes:
        away: the target's mean.
        width: its standard deviation.
        begin: the guide's standard deviation at the start.
        options: of `ppl.fit`.
        tight: a second latent, of unit scale, whose guide begins at its target.
    """

    away: float
    width: float
    begin: float
    options: Mapping[str, Any]
    tight: bool = False


SMALL_STEPS = {"step_size": 0.01}
RAMPS: dict[str, Ramp] = {
    "mean 1e4, sd 1e4": Ramp(1e4, 1e4, 1e4, {}),
    "mean 1e4, sd 1e4, begun at sd 1": Ramp(1e4, 1e4, 1.0, {}),
    "mean 1e4, sd 1e4, with a unit latent": Ramp(1e4, 1e4, 1e4, {}, tight=True),
    "mean 1e6, sd 1e6": Ramp(1e6, 1e6, 1e6, {}),
    "mean 1e5, sd 1e3": Ramp(1e5, 1e3, 1e3, {}),
    "mean 1e4, sd 1e4, step size 0.01": Ramp(1e4, 1e4, 1e4, SMALL_STEPS),
    "mean 1e3, sd 1e2, step size 0.001": Ramp(1e3, 1e2, 1e2, {"step_size": 0.001}),
    "mean 1e4, sd 1e4, unit latent, step size 0.01": Ramp(1e4, 1e4, 1e4, SMALL_STEPS, tight=True),
    "mean 1e4, sd 1e4, one particle": Ramp(1e4, 1e4, 1e4, {"num_particles": 1}),
}


def programs(ramp: Ramp) -> tuple[Callable[[], None], Callable[[], None]]:
    """Model and guide."""

    def model() -> None:
        pyro.sample("far", dist.Normal(ramp.away, ramp.width))
        if ramp.tight:
            pyro.sample("near", dist.Normal(0.0, 1.0))

    def guide() -> None:
        loc = pyro.param("loc", torch.tensor(0.0))
        scale = pyro.param("scale", torch.tensor(ramp.begin), constraint=constraints.positive)
        pyro.sample("far", dist.Normal(loc, scale))
        if ramp.tight:
            near = pyro.param("near_loc", torch.tensor(0.0))
            near_scale = pyro.param("near_scale", torch.tensor(1.0), constraint=constraints.positive)
            pyro.sample("near", dist.Normal(near, near_scale))

    return model, guide


def climb(name: str, seed: int) -> Row:
    """Row of a ramp; its deficit is exact."""
    ramp = RAMPS[name]
    model, guide = programs(ramp)
    fit = ppl.fit(model, {}, guide=guide, seed=seed, **ramp.options)
    values = {key: float(value) for key, value in fit.parameters.items()}
    deficit = divergence(values["loc"], values["scale"], ramp.away, ramp.width)
    if ramp.tight:
        deficit += divergence(values["near_loc"], values["near_scale"], 0.0, 1.0)
    return {
        "deficit": deficit,
        "passed": not false_end(fit.status, deficit),
        **described(fit),
        "seconds": fit.seconds,
    }


def divergence(mean: float, sd: float, target_mean: float, target_sd: float) -> float:
    """Kullback-Leibler divergence between two normals, in nats."""
    ratio = sd / target_sd
    return 0.5 * (ratio**2 + ((mean - target_mean) / target_sd) ** 2 - 1.0) - math.log(ratio)
