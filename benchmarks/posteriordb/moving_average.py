"""A simulated series: autoregression and moving average of order one, ARMA(1, 1)."""

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch.nn.functional import pad

from benchmarks.posteriordb.columns import column
from benchmarks.posteriordb.problem import POSTERIORDB, Entry, Raw

CITE = (
    "Box and Jenkins (1970), Time Series Analysis: Forecasting and Control, Holden-Day (model); "
    f"Stan Development Team, Stan User's Guide, time-series models; {POSTERIORDB} (simulated data)."
)


def model(y: torch.Tensor) -> None:
    """ARMA(1, 1): y_t = mu + phi y_(t-1) + theta e_(t-1) + e_t, e_t ~ Normal(0, sigma).

    mu ~ Normal(0, 10), phi ~ Normal(0, 2), theta ~ Normal(0, 2), sigma ~ HalfCauchy(2.5). Before the first time stand
    y_0 = mu and e_0 = 0. Given the series the errors are a linear recursion, so all times are one vector.

    Where |theta| > 1 the errors grow without bound, and a chain that starts there can end in a mode 900 nats below the
    main one. The site is theta in quarters, so that starts of a few units are invertible.

    Args:
        y: The series, shape (time,).

    Box and Jenkins (1970).
    """
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    phi = pyro.sample("phi", dist.Normal(0.0, 2.0))
    theta = pyro.deterministic("theta", pyro.sample("theta_quarters", dist.Normal(0.0, 8.0)) / 4.0)
    sigma = pyro.sample("sigma", dist.HalfCauchy(2.5))
    y = y.to(mu)
    first = torch.arange(len(y)) == 0
    before = torch.where(first, mu, y.roll(1))
    errors = filtered(y - mu - phi * before, -theta)
    with pyro.plate("time", len(y)):
        pyro.sample("y", dist.Normal(y - errors, sigma), obs=y)


def filtered(values: torch.Tensor, coefficient: torch.Tensor) -> torch.Tensor:
    """The recursion e_t = v_t + c e_(t-1) from e_0 = 0, in log2(time) vectorised rounds.

    With the shift S, e = (1 - cS)^-1 v = ... (1 + c^4 S^4)(1 + c^2 S^2)(1 + cS) v, a product that ends, for S^time = 0
    (Hillis and Steele 1986, Data parallel algorithms).

    Args:
        values: v, shape (..., time).
        coefficient: c, which broadcasts to shape (..., 1).

    Returns:
        e, shape (..., time).
    """
    shift = 1
    while shift < values.shape[-1]:
        values = values + coefficient * pad(values[..., :-shift], (shift, 0))
        coefficient = coefficient.square()
        shift *= 2
    return values


def _prepare(raw: Raw) -> dict[str, Any]:
    return {"y": column(raw, "y")}


ENTRIES = {"arma-arma11": Entry(model, _prepare, CITE)}
