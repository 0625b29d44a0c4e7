"""Models whose answers are known, with amortised guides, fitted in one step."""

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from torch import nn

import ppl_models as ppl
from tests.randomness import seeded


class Linear:
    """z ~ N(0, I), x | z ~ N(W z + b, s² I), and its exact posterior as the guide."""

    def __init__(self, loadings, offset, scale, *, shift=0.0, widen=1.0):
        self.W, self.b, self.s = loadings, offset, scale
        self.shift, self.widen = shift, widen
        k = loadings.shape[1]
        self.cov = torch.linalg.inv(torch.eye(k, dtype=torch.float64) + loadings.T @ loadings / scale**2)
        self.marginal = loadings @ loadings.T + scale**2 * torch.eye(len(loadings), dtype=torch.float64)

    def model(self, x=None, num_rows=5):
        n, k = (num_rows if x is None else len(x)), self.W.shape[1]
        with pyro.plate("datum", n):
            z = pyro.sample("z", dist.Normal(torch.zeros(n, k), 1.0).to_event(1))
            return pyro.sample("x", dist.Normal(z @ self.W.T + self.b, self.s).to_event(1), obs=x)

    def mean(self, x):
        return (x - self.b) @ self.W @ self.cov / self.s**2

    def guide(self, x=None, num_rows=5):
        shift = pyro.param("shift", torch.tensor(self.shift))
        with pyro.plate("datum", len(x)):
            scale = torch.linalg.cholesky(self.cov) * self.widen
            pyro.sample("z", dist.MultivariateNormal(self.mean(x) + shift, scale_tril=scale))

    def draw(self, num_rows, seed):
        with seeded(seed):
            z = torch.randn(num_rows, self.W.shape[1], dtype=torch.float64)
            return z @ self.W.T + self.b + self.s * torch.randn(num_rows, len(self.b), dtype=torch.float64)

    def log_evidence(self, x):
        return torch.distributions.MultivariateNormal(self.b, self.marginal).log_prob(x)


def fitted(model, guide, data, **options):
    """The guide as it is: one step of length next to nothing."""
    return ppl.fit(
        model, data, guide=guide, max_steps=1, step_size=1e-12, backend="eager", num_particles=1, seed=0, **options
    )


def linear(num_features=6, num_latents=2, scale=0.5, **faults):
    with seeded(1):
        return Linear(
            torch.randn(num_features, num_latents, dtype=torch.float64),
            torch.randn(num_features, dtype=torch.float64),
            scale,
            **faults,
        )


def digits_pca(pixels, num_latents):
    """The most likely probabilistic PCA of pixels. Tipping and Bishop (1999)."""
    x = torch.as_tensor(pixels)
    values, vectors = torch.linalg.eigh(torch.cov(x.T, correction=0))
    variance = values[:-num_latents].mean()
    top = vectors[:, -num_latents:] * (values[-num_latents:] - variance).sqrt()
    return Linear(top, x.mean(0), float(variance.sqrt()))


class Images(nn.Module):
    """Bernoulli images of event dim 2 from an untrained decoder, and an untrained encoder."""

    def __init__(self):
        super().__init__()
        self.decoder, self.encoder = nn.Linear(3, 64), nn.Linear(64, 6)

    def model(self, x=None, num_rows=5):
        pyro.module("decoder", self.decoder)
        n = num_rows if x is None else len(x)
        with pyro.plate("datum", n):
            z = pyro.sample("z", dist.Normal(torch.zeros(n, 3), 1.0).to_event(1))
            logits = 3.0 * self.decoder(z).unflatten(-1, (8, 8))
            return pyro.sample("x", dist.Bernoulli(logits=logits).to_event(2), obs=x)

    def guide(self, x=None, num_rows=5):
        pyro.module("encoder", self.encoder)
        mean, log_sd = self.encoder(x.flatten(-2)).chunk(2, -1)
        with pyro.plate("datum", len(x)):
            pyro.sample("z", dist.Normal(mean, (0.1 * log_sd).exp()).to_event(1))


def counts_model(group, x=None):
    """Poisson counts with two latents for each row, one above the other, a covariate and an effect of all rows."""
    effect = pyro.sample("effect", dist.Normal(0.0, 1.0))
    with pyro.plate("datum", len(group)):
        above = pyro.sample("above", dist.Normal(0.0, 1.0))
        below = pyro.sample("below", dist.Normal(above, 0.5))
        rate = (0.3 * below + 0.2 * group + effect).exp().unsqueeze(-1).expand(*below.shape, 4)
        return pyro.sample("x", dist.Poisson(rate + 0.1).to_event(1), obs=x)


def counts_guide(group, x=None):
    effect = pyro.sample("effect", dist.Normal(pyro.param("effect_mean", torch.tensor(0.5)), 0.2))
    size = torch.log1p(x.mean(-1)) - effect
    with pyro.plate("datum", len(group)):
        above = pyro.sample("above", dist.Normal(0.5 * size, 0.8))
        pyro.sample("below", dist.Normal(0.5 * above + 0.5 * size, 0.5))


def counts(num_rows=12):
    rng = np.random.default_rng(3)
    return {"group": rng.integers(0, 3, num_rows).astype(float), "x": rng.poisson(2.0, (num_rows, 4)).astype(float)}
