"""Coaching in eight schools: a hierarchical normal model, non-centred."""

from typing import Any

import pyro
import pyro.distributions as dist
import torch

from benchmarks.posteriordb.columns import column
from benchmarks.posteriordb.problem import POSTERIORDB, Entry, Raw

CITE = (
    "Rubin (1981), Estimation in parallel randomized experiments, Journal of Educational Statistics 6, 377-401; "
    f"Gelman et al. (2013), Bayesian Data Analysis, section 5.5; {POSTERIORDB}."
)


def model(sigma: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
    """Partial pooling: y_j ~ Normal(theta_j, sigma_j), theta_j = mu + tau theta_trans_j, theta_trans_j ~ Normal(0, 1).

    mu ~ Normal(0, 5), tau ~ HalfCauchy(5).

    Args:
        sigma: Standard errors of the effects in points, shape (school,).
        y: Estimated effects in points, shape (school,); None to draw them.

    Returns:
        The effects, estimated or drawn.

    Rubin (1981).
    """
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("school", len(sigma)):
        theta_trans = pyro.sample("theta_trans", dist.Normal(0.0, 1.0))
        theta = pyro.deterministic("theta", mu + tau * theta_trans)
        return pyro.sample("y", dist.Normal(theta, sigma.to(theta)), obs=y)


def _prepare(raw: Raw) -> dict[str, Any]:
    return {"sigma": column(raw, "sigma"), "y": column(raw, "y")}


ENTRIES = {"eight_schools-eight_schools_noncentered": Entry(model, _prepare, CITE)}
