"""A model whose posterior is known, and refits that draw from it, or from it with a planted fault."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch

from ppl_models.inference import FitOptions
from ppl_models.inference.refitting import Refitted

NUM_DATA = 3
DATA = {"scale": torch.tensor(1.0), "y": torch.tensor([0.3, -0.4, 1.2])}


def model(scale, y=None):
    """Two normal means, each with three data of known noise."""
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    with pyro.plate("datum", NUM_DATA):
        return pyro.sample("y", dist.Normal(mean.sum(-1, keepdim=True), scale), obs=y)


def posterior(y, replicate=None):
    """Mean and covariance of the two means given one or two sets of data, in closed form."""
    design = np.ones((NUM_DATA * (1 if replicate is None else 2), 2))
    values = np.asarray(y) if replicate is None else np.concatenate([y, replicate])
    covariance = np.linalg.inv(np.eye(2) + design.T @ design)
    return covariance @ design.T @ values, covariance


@dataclass(frozen=True)
class ExactSpec:
    """Stands for a `RefitSpec`: its refits draw from the posterior itself, made narrower and moved by a fault."""

    width: float = 1.0
    shift: float = 0.0
    fails: tuple[str, ...] = ()
    amortised: bool = False
    model: Any = None
    data: Any = None
    options: FitOptions = field(default_factory=lambda: FitOptions(guide="full_rank"))

    def of(self, fit: Any, *, amortised: bool = False) -> "ExactSpec":
        return self

    def build(self) -> "ExactSpec":
        return self

    def draws(self, data: Any, num_draws: int, *, seed: int) -> Refitted:
        rng = np.random.default_rng(seed)
        if self.fails and rng.uniform() < 0.2:
            how = self.fails[rng.integers(len(self.fails))]
            if how == "raises":
                raise ValueError("a planted failure")
            bad = np.full((num_draws, 2), np.nan if how == "nan" else 0.0)
            return Refitted({"mean": bad}, np.zeros(num_draws), "max_steps" if how == "stops" else "converged", 0.0)
        values = list(data.values()) if isinstance(data, dict) else list(data)
        mean, covariance = posterior(*(value.numpy() for value in values[1:]))
        sd = np.sqrt(np.diag(covariance))
        draws = mean + self.shift * sd + self.width * rng.multivariate_normal(np.zeros(2), covariance, num_draws)
        return Refitted({"mean": draws}, np.zeros(num_draws), "converged", 0.0)
