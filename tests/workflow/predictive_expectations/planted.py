"""A conjugate normal whose posterior is known, and guides that are wrong in a known way."""

import math

import pyro
import pyro.distributions as dist
import torch

import ppl_models as ppl

Y = torch.tensor([0.3, 1.0, -0.5, 0.2], dtype=torch.float64)
MEAN, SD = float(Y.sum()) / 5.0, math.sqrt(0.2)


def model(x=None, y=None):
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    pyro.deterministic("double", 2.0 * mu)
    with pyro.plate("row", len(x)):
        return pyro.sample("y", dist.Normal(mu + x, 1.0), obs=y)


DATA = {"x": torch.zeros(4), "y": Y}
NEW = {"x": torch.tensor([0.0, 1.0]), "y": None}


def fit_of(shift=0.0, scale=1.0):
    """The posterior, moved by `shift` of its sds and stretched by `scale`."""

    def guide(x=None, y=None):
        loc = torch.tensor(MEAN + shift * SD, dtype=torch.float64)
        pyro.sample("mu", dist.Normal(loc, torch.tensor(scale * SD, dtype=torch.float64)))

    return ppl.fit(model, DATA, guide=guide, max_steps=1, backend="eager", precondition=False, seed=1)
