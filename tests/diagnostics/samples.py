"""Draws with known properties."""

import numpy as np
import xarray as xr
from scipy.signal import lfilter

SCHOOLS = ["Choate", "Deerfield", "Phillips Andover"]


def dataset(tau, theta):
    """tau of shape (chain, draw), theta of shape (chain, draw, 3)."""
    return xr.Dataset(
        {"tau": (("chain", "draw"), tau), "theta": (("chain", "draw", "school"), theta)}, coords={"school": SCHOOLS}
    )


def normal_draws(rng, num_chains=1, num_draws=10_000):
    values = rng.normal(size=(num_chains, num_draws, 4))
    return dataset(values[..., 0], values[..., 1:])


def autoregressive(rng, shape, correlation):
    """Stationary AR(1) noise of unit variance along axis 1."""
    warm_up = 200
    noise = rng.normal(size=(shape[0], shape[1] + warm_up, *shape[2:]))
    return lfilter([1], [1, -correlation], noise, axis=1)[:, warm_up:] * np.sqrt(1 - correlation**2)


def matrix(values):
    """values of shape (chain, draw, parameter) as one variable."""
    return xr.Dataset({"x": (("chain", "draw", "x_dim_0"), values)})
