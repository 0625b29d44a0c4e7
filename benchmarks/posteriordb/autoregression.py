"""A simulated series: an autoregression of order five."""

from typing import Any

import pyro
import pyro.distributions as dist
import torch

from benchmarks.posteriordb.columns import column
from benchmarks.posteriordb.problem import POSTERIORDB, Entry, Raw

CITE = f"Stan Development Team, Stan User's Guide, time-series models; {POSTERIORDB} (simulated data)."


def model(lags: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
    """Autoregression: y_t ~ Normal(alpha + sum_k beta_k y_(t-k), sigma), conditional on the first values.

    alpha ~ Normal(0, 10), beta_k ~ Normal(0, 10), sigma ~ HalfCauchy(2.5). The lagged series is an argument, so that
    all times are one vector; without y the model draws each time one step ahead, from the measured past.

    Args:
        lags: The series one, two, ... steps before, shape (time, lag).
        y: The series after its first values, shape (time,); None to draw it.

    Returns:
        The series, measured or drawn one step ahead.

    Magnusson et al. (2024), posteriordb.
    """
    alpha = pyro.sample("alpha", dist.Normal(0.0, 10.0))
    beta = pyro.sample("beta", dist.Normal(lags.new_zeros(lags.shape[-1]), 10.0).to_event(1))
    sigma = pyro.sample("sigma", dist.HalfCauchy(2.5))
    mean = alpha + (lags.to(beta) * beta).sum(-1)  # broadcasts over particles, where a matrix product does not
    with pyro.plate("time", lags.shape[-2]):
        return pyro.sample("y", dist.Normal(mean, sigma), obs=y)


def _prepare(raw: Raw) -> dict[str, Any]:
    order, series = raw["K"], column(raw, "y")
    windows = series[:-1].unfold(0, order, 1)  # oldest first
    return {"lags": windows.flip(-1).contiguous(), "y": series[order:]}


ENTRIES = {"arK-arK": Entry(model, _prepare, CITE)}
