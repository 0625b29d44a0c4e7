"""Models with local latents whose evidence is known in closed form, and programs of them."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import torch

from ppl_models.program import Program, build_program

NOISE = 0.3


def normals(y):
    """z_i ~ Normal(0, 1), y_i ~ Normal(z_i, 0.3)."""
    with pyro.plate("datum", len(y)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(z, NOISE), obs=y)


def normals_data(count: int, seed: int = 1) -> torch.Tensor:
    """Draws of the model's own data."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, generator=generator, dtype=torch.float64) * math.sqrt(1.0 + NOISE**2)


def normals_truth(y: torch.Tensor) -> np.ndarray:
    """Log evidence of each datum."""
    return torch.distributions.Normal(0.0, math.sqrt(1.0 + NOISE**2)).log_prob(y).numpy()


def normals_posterior(y: torch.Tensor, num_draws: int, seed: int = 2) -> np.ndarray:
    """Exact posterior draws, shape (draw, datum)."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(num_draws, len(y), generator=generator, dtype=torch.float64)
    return (y / (1.0 + NOISE**2) + math.sqrt(NOISE**2 / (1.0 + NOISE**2)) * noise).numpy()


def normals_program(count: int) -> tuple[Program, torch.Tensor]:
    """The program, and its data."""
    y = normals_data(count)
    return build_program(normals, {"y": y}), y


def rates(y):
    """A rate ~ Gamma(2, 1) for each row of counts, shape (row, day)."""
    with pyro.plate("row", len(y)):
        rate = pyro.sample("rate", dist.Gamma(2.0, 1.0))
        pyro.sample("y", dist.Poisson(rate[:, None].expand(y.shape)).to_event(1), obs=y)


def rates_truth(y: torch.Tensor) -> np.ndarray:
    """Log evidence of each row."""
    total, days = y.sum(-1), y.shape[1]
    found = torch.lgamma(2.0 + total) - (2.0 + total) * math.log(1.0 + days) - torch.lgamma(y + 1.0).sum(-1)
    return found.double().numpy()


def two_sites(y):
    """Two latents for each of 3 x 2 data in crossed plates, whose sum is seen with unit noise."""
    rows, columns = pyro.plate("row", 3, dim=-2), pyro.plate("column", 2, dim=-1)
    with rows, columns:
        a = pyro.sample("a", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        b = pyro.sample("b", dist.LogNormal(0.0, 0.5))
        pyro.sample("y", dist.Normal(a.sum(-1) + b.log(), 1.0), obs=y)


def two_sites_truth(y: torch.Tensor) -> np.ndarray:
    """Log evidence of each datum: variances 2 + 0.25 + 1."""
    return torch.distributions.Normal(0.0, math.sqrt(3.25)).log_prob(y).numpy()


def switched(y):
    """A place ~ Normal(0, 1), seen from one of two sides, which is summed out."""
    place = pyro.sample("place", dist.Normal(0.0, 1.0))
    side = pyro.sample("side", dist.Bernoulli(0.3), infer={"enumerate": "parallel"})
    pyro.sample("y", dist.Normal(place + 2.0 * side, 0.5), obs=y)


def switched_truth(y: float) -> float:
    """Log evidence of the one observation."""
    sd = math.sqrt(1.25)
    terms = [0.7 * math.exp(-0.5 * (y / sd) ** 2), 0.3 * math.exp(-0.5 * ((y - 2.0) / sd) ** 2)]
    return math.log(sum(terms)) - math.log(sd * math.sqrt(2.0 * math.pi))


def half_line():
    """z ~ Normal(0, 1), and only z > 0 is possible: log evidence log 1/2."""
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.factor("side", torch.where(z > 0.0, 0.0, -math.inf))
