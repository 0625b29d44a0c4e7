"""A simulated regression whose coefficients are correlated in the posterior."""

from typing import Any

import pyro
import pyro.distributions as dist
import torch

from benchmarks.posteriordb.columns import column
from benchmarks.posteriordb.problem import POSTERIORDB, Entry, Raw

CITE = f"{POSTERIORDB} (simulated data)."


def model(x: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
    """Linear regression without intercept: y_n ~ Normal(x_n . beta, sigma).

    beta_j ~ Normal(0, 10), sigma ~ HalfNormal(10).

    Args:
        x: Covariates, shape (row, column).
        y: Response, shape (row,); None to draw it.

    Returns:
        The response, measured or drawn.

    Magnusson et al. (2024), posteriordb.
    """
    beta = pyro.sample("beta", dist.Normal(x.new_zeros(x.shape[-1]), 10.0).to_event(1))
    sigma = pyro.sample("sigma", dist.HalfNormal(10.0))
    mean = (x.to(beta) * beta).sum(-1)  # broadcasts over particles, where a matrix product does not
    with pyro.plate("row", x.shape[-2]):
        return pyro.sample("y", dist.Normal(mean, sigma), obs=y)


def _prepare(raw: Raw) -> dict[str, Any]:
    return {"x": column(raw, "X"), "y": column(raw, "y")}


ENTRIES = {"sblrc-blr": Entry(model, _prepare, CITE)}
