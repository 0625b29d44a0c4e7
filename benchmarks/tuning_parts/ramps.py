"""(d) Hand-written guides that have far to go: no fit may say that it has converged before it is there."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from scipy.optimize import minimize
from torch.distributions import constraints

import ppl_models as ppl
from benchmarks.tuning_parts.default_fits import described
from benchmarks.tuning_parts.rules import Row, false_end

NUM_NODES = 200


@dataclass(frozen=True)
class Ramp:
    """A target of one latent, with a normal guide that begins far away.

    Attributes:
        target: makes the target.
        loc: the guide's mean at the start.
        scale: its standard deviation.
        options: of `ppl.fit`.
        tight: a second latent, of unit scale, whose guide begins at its target.
    """

    target: Callable[[], Any]
    loc: float
    scale: float
    options: Mapping[str, Any] = field(default_factory=dict)
    tight: bool = False


def wide() -> dist.Normal:
    return dist.Normal(torch.tensor(1e4), 1e4)


def wider() -> dist.Normal:
    return dist.Normal(torch.tensor(1e6), 1e6)


def narrow() -> dist.Normal:
    return dist.Normal(torch.tensor(1e5), 1e3)


def near() -> dist.Normal:
    return dist.Normal(torch.tensor(1e3), 1e2)


def tailed() -> dist.StudentT:
    """Its slope far away is a small one, and falls with the distance."""
    return dist.StudentT(torch.tensor(1.0), 0.0, 1.0)


RAMPS: dict[str, Ramp] = {
    "normal(1e4, 1e4)": Ramp(wide, 0.0, 1e4),
    "normal(1e4, 1e4), begun at sd 1": Ramp(wide, 0.0, 1.0),
    "normal(1e4, 1e4) and a unit latent": Ramp(wide, 0.0, 1e4, tight=True),
    "normal(1e4, 1e4), one particle": Ramp(wide, 0.0, 1e4, {"num_particles": 1}),
    "normal(1e4, 1e4), step size 0.01": Ramp(wide, 0.0, 1e4, {"step_size": 0.01}),
    "normal(1e4, 1e4) and a unit latent, step size 0.01": Ramp(wide, 0.0, 1e4, {"step_size": 0.01}, tight=True),
    "normal(1e6, 1e6)": Ramp(wider, 0.0, 1e6),
    "normal(1e5, 1e3)": Ramp(narrow, 0.0, 1e3),
    "normal(1e3, 1e2), step size 0.001": Ramp(near, 0.0, 1e2, {"step_size": 0.001}),
    "cauchy(0, 1), begun at 1e4": Ramp(tailed, 1e4, 1.0),
    "cauchy(0, 1), begun at 1e3, step size 0.01": Ramp(tailed, 1e3, 1.0, {"step_size": 0.01}),
}


def programs(ramp: Ramp) -> tuple[Callable[[], None], Callable[[], None]]:
    """Model and guide."""

    def model() -> None:
        pyro.sample("far", ramp.target())
        if ramp.tight:
            pyro.sample("near", dist.Normal(0.0, 1.0))

    def guide() -> None:
        loc = pyro.param("loc", torch.tensor(ramp.loc))
        scale = pyro.param("scale", torch.tensor(ramp.scale), constraint=constraints.positive)
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
    deficit = best_elbo(ramp.target) - elbo(ramp.target, values["loc"], values["scale"])
    if ramp.tight:
        deficit -= elbo(unit, values["near_loc"], values["near_scale"])
    return {
        "deficit": deficit,
        "passed": not false_end(fit.status, deficit),
        **described(fit),
        "seconds": fit.seconds,
    }


def unit() -> dist.Normal:
    return dist.Normal(torch.tensor(0.0), 1.0)


def elbo(target: Callable[[], Any], mean: float, sd: float) -> float:
    """ELBO in nats of a normal guide, by Gauss-Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(NUM_NODES)
    points = torch.as_tensor(mean + sd * nodes)
    densities = target().log_prob(points).double().numpy()
    return float(weights @ densities / weights.sum() + np.log(sd) + 0.5 * (1.0 + np.log(2.0 * np.pi)))


@cache
def best_elbo(target: Callable[[], Any]) -> float:
    """The largest ELBO of a normal guide: the target's middle is its mean."""
    found = target()
    middle = float(found.loc)
    ends = minimize(lambda log_sd: -elbo(target, middle, float(np.exp(log_sd[0]))), [np.log(float(found.scale))])
    return -float(ends.fun)
