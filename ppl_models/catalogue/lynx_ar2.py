"""The lynx series: an autoregression of order two on the logarithm of the animals trapped."""

import numpy as np
import pyro
import pyro.distributions as dist
import torch

from guides.handwritten.lynx_ar2 import guide
from ppl_models import datasets
from ppl_models.catalogue.problem import Problem


def model(lags: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
    """Autoregression: y_t ~ Normal(a + b_1 y_(t-1) + b_2 y_(t-2), noise), conditional on the first two years.

    a ~ Normal(0, 2), b_k ~ Normal(0, 1), noise ~ HalfNormal(1). The lagged series is an argument, so that all years are
    one vector; without y the model draws each year one step ahead, from the measured past.

    Args:
        lags: The series one and two years before, log10 of animals, shape (year, lag).
        y: The series, log10 of animals, shape (year,); None to draw it.

    Returns:
        The series, measured or drawn one step ahead.

    Moran (1953), The statistical analysis of the Canadian lynx cycle; Campbell and Walker (1977), A survey of
    statistical work on the Mackenzie River series of annual Canadian lynx trappings.
    """
    intercept = pyro.sample("intercept", dist.Normal(0.0, 2.0))
    coefficients = pyro.sample("coefficients", dist.Normal(torch.zeros(lags.shape[-1]), 1.0).to_event(1))
    noise = pyro.sample("noise", dist.HalfNormal(1.0))
    location = intercept + (lags.to(coefficients) * coefficients).sum(-1)  # broadcasts over particles
    with pyro.plate("year", lags.shape[-2]):
        return pyro.sample("y", dist.Normal(location, noise), obs=y)


def build() -> Problem:
    """The problem: 1823 to 1934, with two lags."""
    table = datasets.lynx()
    series = np.log10(table["trapped"])
    return Problem(
        name="lynx_ar2",
        title="the Canadian lynx series, log10, an autoregression of order two",
        model=model,
        data={"lags": torch.tensor(np.stack([series[1:-1], series[:-2]], axis=-1)), "y": torch.tensor(series[2:])},
        coords={"year": table["year"][2:].tolist(), "lag": [1, 2]},
        dims={"intercept": (), "coefficients": ("lag",), "noise": (), "y": ("year",), "lags": ("year", "lag")},
        guides={"handwritten": guide},
        cite="Moran (1953), The statistical analysis of the Canadian lynx cycle, Australian Journal of Zoology 1, "
        "163-173.",
        expected={
            "normal": "has the means, but far too small standard deviations: the lags are collinear and not centred.",
            "full_rank": "does well: given the noise the posterior is exactly normal.",
            "handwritten": "does well: all is exact given the noise, and log noise is nearly normal.",
        },
    )
