"""Earnings on height and sex: five regressions with flat priors."""

from typing import Any

import pyro
import pyro.distributions as dist
import torch

from benchmarks.posteriordb import improper
from benchmarks.posteriordb.columns import centred, column, design
from benchmarks.posteriordb.problem import POSTERIORDB, Entry, Raw

CITE = (
    "Gelman and Hill (2006), Data Analysis Using Regression and Multilevel/Hierarchical Models, Cambridge University "
    f"Press, chapter 4; {POSTERIORDB}."
)


def model(x: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
    """Linear regression: y_n ~ Normal(x_n . beta, sigma); the priors of beta and of sigma > 0 are flat.

    Args:
        x: Design matrix, ones in its first column; heights in inches, shape (person, column).
        y: Logarithm of yearly earnings in dollars, shape (person,); None to draw it.

    Returns:
        The response, measured or drawn.

    Gelman and Hill (2006), chapter 4.
    """
    beta = pyro.sample("beta", improper.real_vector(x, scale=1.0))
    sigma = pyro.sample("sigma", improper.positive(scale=1.0))
    mean = (x.to(beta) * beta).sum(-1)  # broadcasts over particles, where a matrix product does not
    with pyro.plate("person", x.shape[-2]):
        return pyro.sample("y", dist.Normal(mean, sigma), obs=y)


def _log10_height(raw: Raw) -> dict[str, Any]:
    return {"x": design(column(raw, "height")), "y": column(raw, "earn").log10()}


def _height(raw: Raw) -> dict[str, Any]:
    return {"x": design(column(raw, "height")), "y": column(raw, "earn").log()}


def _height_male(raw: Raw) -> dict[str, Any]:
    return {"x": design(column(raw, "height"), column(raw, "male")), "y": column(raw, "earn").log()}


def _log_height_male(raw: Raw) -> dict[str, Any]:
    return {"x": design(column(raw, "height").log(), column(raw, "male")), "y": column(raw, "earn").log()}


def _interaction(raw: Raw) -> dict[str, Any]:
    height, male = column(raw, "height"), column(raw, "male")
    standardised = centred(height) / height.std()
    return {"x": design(standardised, male, standardised * male), "y": column(raw, "earn").log()}


LONG = {"draws": 4_000}
"""Heights lie far from zero, so that intercept and slope are correlated at 0.99 and more, and chains mix slowly."""

ENTRIES = {
    "earnings-log10earn_height": Entry(model, _log10_height, CITE, LONG),
    "earnings-logearn_height": Entry(model, _height, CITE, LONG),
    "earnings-logearn_height_male": Entry(model, _height_male, CITE, LONG),
    "earnings-logearn_interaction_z": Entry(model, _interaction, CITE),
    "earnings-logearn_logheight_male": Entry(model, _log_height_male, CITE, LONG),
}
