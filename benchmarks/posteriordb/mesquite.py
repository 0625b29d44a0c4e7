"""The weight of mesquite bushes on their measures: four regressions with flat priors."""

from typing import Any

import pyro
import pyro.distributions as dist
import torch

from benchmarks.posteriordb import improper
from benchmarks.posteriordb.columns import column, design
from benchmarks.posteriordb.problem import POSTERIORDB, Entry, Raw

CITE = (
    "Gelman and Hill (2006), Data Analysis Using Regression and Multilevel/Hierarchical Models, Cambridge University "
    f"Press, section 4.6; {POSTERIORDB}."
)


def model(x: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
    """Linear regression: y_n ~ Normal(x_n . beta, sigma); the priors of beta and of sigma > 0 are flat.

    Args:
        x: Design matrix: ones, logarithms of the bush's measures, and its group (0 or 1), shape (bush, column).
        y: Logarithm of the weight of the leaves in grams, shape (bush,); None to draw it.

    Returns:
        The response, measured or drawn.

    Gelman and Hill (2006), section 4.6.
    """
    beta = pyro.sample("beta", improper.real_vector(x, scale=1.0))
    sigma = pyro.sample("sigma", improper.positive(scale=1.0))
    mean = (x.to(beta) * beta).sum(-1)  # broadcasts over particles, where a matrix product does not
    with pyro.plate("bush", x.shape[-2]):
        return pyro.sample("y", dist.Normal(mean, sigma), obs=y)


def _log_measures(raw: Raw) -> dict[str, Any]:
    names = ("diam1", "diam2", "canopy_height", "total_height", "density")
    return _data(raw, *(column(raw, name).log() for name in names), column(raw, "group"))


def _volume(raw: Raw) -> dict[str, Any]:
    return _data(raw, _log_volume(raw))


def _volume_area(raw: Raw) -> dict[str, Any]:
    return _data(raw, _log_volume(raw), _log_area(raw), column(raw, "group"))


def _volume_area_shape(raw: Raw) -> dict[str, Any]:
    shape = (column(raw, "diam1") / column(raw, "diam2")).log()
    heights = (column(raw, name).log() for name in ("total_height", "density"))
    return _data(raw, _log_volume(raw), _log_area(raw), shape, *heights, column(raw, "group"))


def _log_area(raw: Raw) -> torch.Tensor:
    return (column(raw, "diam1") * column(raw, "diam2")).log()


def _log_volume(raw: Raw) -> torch.Tensor:
    return _log_area(raw) + column(raw, "canopy_height").log()


def _data(raw: Raw, *columns: torch.Tensor) -> dict[str, Any]:
    return {"x": design(*columns), "y": column(raw, "weight").log()}


ENTRIES = {
    "mesquite-logmesquite": Entry(model, _log_measures, CITE),
    "mesquite-logmesquite_logva": Entry(model, _volume_area, CITE, {"draws": 2_000}),
    "mesquite-logmesquite_logvas": Entry(model, _volume_area_shape, CITE),
    "mesquite-logmesquite_logvolume": Entry(model, _volume, CITE),
}
