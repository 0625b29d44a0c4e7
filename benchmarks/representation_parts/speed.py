"""Speed of a training by epochs beside a hand-written loop of torch: 784-400-20, batches of 128, float32.

The loop is what a person would write for this model and no other: resident data and a permuted index, one fused
log-likelihood, the divergence in closed form, torch's fused Adam.
"""

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from torch import nn

import ppl_models as ppl

FEATURES, HIDDEN, UNITS, BATCH = 784, 400, 20, 128
LIKELIHOODS = ("bernoulli", "gaussian", "negative_binomial")
Log = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


class Autoencoder(nn.Module):
    """A VAE with one hidden layer on each side.

    Args:
        likelihood: one of `LIKELIHOODS`.
    """

    def __init__(self, likelihood: str):
        super().__init__()
        self.likelihood = likelihood
        self.decoder = nn.Sequential(nn.Linear(UNITS, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, FEATURES))
        self.encoder = nn.Sequential(nn.Linear(FEATURES, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2 * UNITS))
        self.log_scale = nn.Parameter(torch.zeros(FEATURES))

    def model(self, x: torch.Tensor) -> None:
        """The generative model."""
        pyro.module("decoder", self.decoder)
        log_scale = None if self.likelihood == "bernoulli" else pyro.param("log_scale", self.log_scale)
        with pyro.plate("datum", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x), UNITS), 1.0).to_event(1))
            pyro.sample("x", self._distribution(self.decoder(z), log_scale).to_event(1), obs=x)

    def guide(self, x: torch.Tensor) -> None:
        """The encoder's normal."""
        pyro.module("encoder", self.encoder)
        location, log_scale = self.encoder(x).chunk(2, -1)
        with pyro.plate("datum", len(x)):
            pyro.sample("z", dist.Normal(location, log_scale.exp()).to_event(1))

    def _distribution(self, found: torch.Tensor, log_scale: Any) -> Any:
        if self.likelihood == "bernoulli":
            return dist.Bernoulli(logits=found)
        if self.likelihood == "gaussian":
            return dist.Normal(found, log_scale.exp())
        return dist.NegativeBinomial(log_scale.exp(), logits=found)


def log_density(likelihood: str) -> Log:
    """The log-likelihood of a batch, summed, as a person would write it."""

    def bernoulli(x: torch.Tensor, found: torch.Tensor, log_scale: torch.Tensor) -> torch.Tensor:
        return -nn.functional.binary_cross_entropy_with_logits(found, x, reduction="sum")

    def gaussian(x: torch.Tensor, found: torch.Tensor, log_scale: torch.Tensor) -> torch.Tensor:
        away = (x - found) * torch.exp(-log_scale)
        return -0.5 * away.square().sum() - len(x) * (log_scale.sum() + 0.5 * FEATURES * math.log(2.0 * math.pi))

    def negative_binomial(x: torch.Tensor, found: torch.Tensor, log_scale: torch.Tensor) -> torch.Tensor:
        count = log_scale.exp()
        terms = count * nn.functional.logsigmoid(-found) + x * nn.functional.logsigmoid(found)
        return (terms + torch.lgamma(count + x) - torch.lgamma(1.0 + x) - torch.lgamma(count)).sum()

    return {"bernoulli": bernoulli, "gaussian": gaussian, "negative_binomial": negative_binomial}[likelihood]


def data_of(likelihood: str, num_rows: int) -> torch.Tensor:
    """Rows in the support of a likelihood, shape (row, feature)."""
    generator = torch.Generator().manual_seed(0)
    uniform = torch.rand(num_rows, FEATURES, generator=generator)
    if likelihood == "bernoulli":
        return (uniform > 0.7).float()
    return uniform if likelihood == "gaussian" else (6.0 * uniform**3).floor()


def loop_seconds(likelihood: str, x: torch.Tensor, num_epochs: int) -> list[float]:
    """Seconds of each epoch of the hand-written loop; the first, which warms up, is left out."""
    torch.manual_seed(0)
    auto, log_prob = Autoencoder(likelihood), log_density(likelihood)
    optimizer = torch.optim.Adam(auto.parameters(), 1e-3, fused=True)
    seconds = []
    for _ in range(num_epochs + 1):
        started = time.perf_counter()
        order, total = torch.randperm(len(x)), torch.zeros(())
        for start in range(0, len(x), BATCH):
            batch = x[order[start : start + BATCH]]
            location, log_scale = auto.encoder(batch).chunk(2, -1)
            z = location + log_scale.exp() * torch.randn_like(location)
            divergence = 0.5 * (location.square() + (2.0 * log_scale).exp() - 1.0 - 2.0 * log_scale).sum()
            loss = (divergence - log_prob(batch, auto.decoder(z), auto.log_scale)) * (len(x) / len(batch))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += loss.detach()
        seconds.append(time.perf_counter() - started)
    return seconds[1:]


def fit_seconds(likelihood: str, x: torch.Tensor, num_epochs: int, backend: str) -> list[float]:
    """Seconds of each epoch of a fit, its look at some rows included; the first is left out."""
    torch.manual_seed(0)
    auto = Autoencoder(likelihood)
    found = ppl.fit(
        auto.model,
        {"x": x},
        guide=auto.guide,
        batch_size=BATCH,
        max_epochs=num_epochs + 1,
        step_size=1e-3,
        num_particles=1,
        backend=backend,
        dtype=torch.float32,
        seed=1,
    )
    assert found.backend == backend, found.backend_note
    assert found.history is not None
    return found.history["epoch_seconds"].tolist()[1:]


def compare(
    likelihood: str,
    *,
    threads: int = 1,
    num_rows: int = 4_096,
    epochs: int = 3,
    rounds: int = 3,
    backend: str = "native",
) -> dict[str, Any]:
    """One row of the table: epochs of both, taken in turn in one process.

    Args:
        likelihood: one of `LIKELIHOODS`.
        threads: torch's threads.
        num_rows: of the data.
        epochs: that are timed in a round.
        rounds: how often each gets its turn.
        backend: of the fit.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        x = data_of(likelihood, num_rows)
        fits: list[float] = []
        loops: list[float] = []
        for _ in range(rounds):
            loops += loop_seconds(likelihood, x, epochs)
            fits += fit_seconds(likelihood, x, epochs, backend)
    finally:
        torch.set_num_threads(before)
    steps = -(-num_rows // BATCH)
    return {
        "likelihood": likelihood,
        "threads": threads,
        "hand-written ms/step": 1e3 * float(np.median(loops)) / steps,
        "ppl-models ms/step": 1e3 * float(np.median(fits)) / steps,
        "ratio of medians": float(np.median(fits) / np.median(loops)),
        "ratio of best": float(np.min(fits) / np.min(loops)),
    }


def rows(quick: bool) -> list[dict[str, Any]]:
    """The table: each likelihood, with one thread and with two."""
    return [
        compare(likelihood, threads=threads, epochs=2 if quick else 5, rounds=2 if quick else 4)
        for threads in (1, 2)
        for likelihood in (LIKELIHOODS[:1] if quick else LIKELIHOODS)
    ]
