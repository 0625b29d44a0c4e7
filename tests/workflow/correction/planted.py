"""Fits whose guides are wrong in a known way, of posteriors that are known."""

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from closed_forms import COVARIANCE, DATA, MEAN, SD, regression

import ppl_models as ppl
from ppl_models.inference import Fit

REGRESSION_SD = SD.numpy()
REGRESSION_MEAN = MEAN.numpy()
CORRELATION = float(COVARIANCE[0, 1] / SD[0] / SD[1])


def standard():
    """x ~ N(0, 1), which no data change."""
    pyro.sample("x", dist.Normal(0.0, 1.0))


def fit_of(guide, model=standard, data=None) -> Fit:
    """A guide without parameters as a fit: there is nothing to learn."""
    return ppl.fit(model, data or {}, guide=guide, max_steps=1, backend="eager", seed=1)


def narrow():
    """Variance 0.7 for 1: k-hat is 0.3."""
    pyro.sample("x", dist.Normal(0.0, 0.7**0.5))


def heavy_tailed():
    """Bounded weights; the sd is sqrt(3) for 1."""
    pyro.sample("x", dist.StudentT(3.0, 0.0, 1.0))


def far():
    """Three sds off, and a third as wide."""
    pyro.sample("x", dist.Normal(3.0, 0.3))


def shifted(x, y=None):
    """The posterior of the regression, moved by 0.4 sd in one weight."""
    pyro.sample("weights", dist.MultivariateNormal(MEAN + torch.tensor([0.4, 0.0]) * SD, COVARIANCE))


def uncorrelated(x, y=None):
    """The posterior's marginals without the correlation of the two weights, -0.69."""
    pyro.sample("weights", dist.Normal(MEAN, SD).to_event(1))


def regression_fit(guide) -> Fit:
    return fit_of(guide, regression, DATA)


def columns(corrected) -> np.ndarray:
    """Draws side by side, shape (draw, parameter)."""
    posterior = corrected.draws["posterior"].to_dataset()
    size = posterior.sizes["chain"] * posterior.sizes["draw"]
    return np.concatenate([v.to_numpy().reshape(size, -1) for v in posterior.data_vars.values()], axis=1)
