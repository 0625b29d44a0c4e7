"""Prices of diamonds: a regression on 24 columns, several of them nearly collinear."""

from typing import Any

import pyro
import pyro.distributions as dist
import torch

from benchmarks.posteriordb.columns import centred, column
from benchmarks.posteriordb.problem import POSTERIORDB, Entry, Raw

CITE = (
    "Wickham (2016), ggplot2: Elegant Graphics for Data Analysis, Springer (data); Bürkner (2017), brms, Journal of "
    f"Statistical Software 80(1) (model); {POSTERIORDB}."
)


def model(x: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
    """Linear regression: y_n ~ Normal(Intercept + x_n . b, sigma).

    Intercept ~ StudentT(3, 8, 10), b_j ~ Normal(0, 1), sigma ~ half StudentT(3, 0, 10).

    Args:
        x: Centred covariates, shape (diamond, column).
        y: Logarithm of the price in dollars, shape (diamond,); None to draw it.

    Returns:
        The response, measured or drawn.

    Bürkner (2017); the priors are the defaults of brms at that time but for b's.
    """
    b = pyro.sample("b", dist.Normal(x.new_zeros(x.shape[-1]), 1.0).to_event(1))
    intercept = pyro.sample("Intercept", dist.StudentT(3.0, 8.0, 10.0))
    sigma = pyro.sample("sigma", dist.FoldedDistribution(dist.StudentT(3.0, 0.0, 10.0)))
    mean = intercept + (x.to(b) * b).sum(-1)  # broadcasts over particles, where a matrix product does not
    with pyro.plate("diamond", x.shape[-2]):
        return pyro.sample("y", dist.Normal(mean, sigma), obs=y)


def _prepare(raw: Raw) -> dict[str, Any]:
    return {"x": centred(column(raw, "X")[:, 1:]), "y": column(raw, "Y")}  # without the column of ones


ENTRIES = {"diamonds-diamonds": Entry(model, _prepare, CITE)}
