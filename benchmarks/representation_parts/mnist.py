"""Do better bounds, posteriors, priors and hierarchies pay on MNIST-5k? Test log likelihoods, three seeds each."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

import guides
import ppl_models as ppl
from guides.amortization.normal import NormalHead
from guides.networks import MLP
from ppl_models import autoencoders, datasets

SEEDS = (1, 2, 3)
LATENT_DIM, TOP_DIM, WIDTH = 32, 16, 200
MAX_EPOCHS, PATIENCE, WARMUP = 200, 25, 20
NUM_IMPORTANCE = 2_000
"""Weights in the logarithm of the test log likelihood."""
NUM_TEST = 250


@dataclass(frozen=True)
class Entrant:
    """A model with its guide, and how it is trained.

    Attributes:
        make: gives model and guide; the weights begin at torch's present seed.
        options: of `ppl.fit`.
    """

    make: Callable[[], tuple[Any, Any]]
    options: dict[str, Any]


def _vae(family: str = "normal", prior: Any = None) -> tuple[Any, Any]:
    model = autoencoders.VAE(
        MLP(LATENT_DIM, 784, hidden=(WIDTH, WIDTH)), LATENT_DIM, likelihood="bernoulli", num_features=784, prior=prior
    )
    return model, guides.amortized(model, family=family, hidden=(WIDTH, WIDTH))


def _ladder() -> tuple[Any, Any]:
    model = autoencoders.LadderVAE(
        MLP(LATENT_DIM, 784, hidden=(WIDTH, WIDTH)),
        (LATENT_DIM, TOP_DIM),
        top_down=nn.Sequential(nn.Linear(TOP_DIM, WIDTH), nn.ReLU(), NormalHead(WIDTH, LATENT_DIM, init_scale=1.0)),
        bottom_up=nn.Sequential(MLP(784, WIDTH, hidden=(WIDTH,)), nn.ReLU()),
        message=NormalHead(WIDTH, LATENT_DIM, init_scale=0.5),
        posterior=nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), NormalHead(WIDTH, TOP_DIM, init_scale=0.5)),
        likelihood="bernoulli",
        num_features=784,
    )
    return model, model.guide


def _flow_prior() -> tuple[Any, Any]:
    return _vae(prior=autoencoders.FlowPrior(LATENT_DIM))


ENTRANTS = {
    "VAE": Entrant(_vae, {}),
    "IWAE, K = 5": Entrant(
        _vae, {"estimator": "importance_weighted", "estimator_options": {"num_importance": 5}, "num_particles": 1}
    ),
    "VAE, RealNVP posterior": Entrant(lambda: _vae("realnvp"), {}),
    "VAE, flow prior": Entrant(_flow_prior, {}),
    "ladder VAE, two layers": Entrant(_ladder, {}),
}


@dataclass(frozen=True)
class Result:
    """One fit: nats per test image, and its time."""

    log_likelihood: float
    elbo: float
    epochs: int
    seconds: float


def data() -> dict[str, torch.Tensor]:
    """Training, validation and test images, pixels cut at half of the largest grey level."""
    table = datasets.mnist_5k()
    pixels = torch.tensor(datasets.binarised(table["pixels"], seed=None), dtype=torch.float32)
    rows = datasets.split(table["digit"], validation=0.1, test=0.1, seed=0)
    return {name: pixels[index] for name, index in rows._asdict().items()}


def fitted(entrant: Entrant, images: dict[str, torch.Tensor], seed: int, max_epochs: int = MAX_EPOCHS) -> ppl.Fit:
    """One fit, its weights begun at the seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model, guide = entrant.make()
    # The warm-up weighs a divergence, which bounds with several weights have not.
    warm = {} if "estimator" in entrant.options else {"warmup_epochs": min(WARMUP, max_epochs // 2)}
    return ppl.fit(
        model,
        {"x": images["train"]},
        guide=guide,
        held_out={"x": images["validation"]},
        batch_size=100,
        max_epochs=max_epochs,
        patience=PATIENCE,
        step_size=1e-3,
        max_seconds=3_600.0,
        seed=seed,
        **{**warm, **entrant.options},
    )


def measured(fit: ppl.Fit, images: torch.Tensor, num_importance: int) -> Result:
    """Bounds of a fit at test images."""
    bounds = [
        ppl.importance_bound(
            fit.at({"x": part}), num_importance=(1, num_importance), num_draws=10 * num_importance, seed=1
        )
        for part in images.split(50)
    ]
    weights = np.array([len(part) for part in images.split(50)], dtype=float)
    each = np.array([bound.by_datum.mean(axis=1) for bound in bounds])
    elbo, log_likelihood = np.average(each, axis=0, weights=weights)
    return Result(float(log_likelihood), float(elbo), len(fit.history), fit.seconds)


def rows(quick: bool) -> list[dict[str, Any]]:
    """A row for each model; differences from the VAE with their standard error over seeds."""
    images = data()
    seeds, epochs, count = (SEEDS[:1], 2, 50) if quick else (SEEDS, MAX_EPOCHS, NUM_TEST)
    found: dict[str, list[Result]] = {}
    for seed in seeds:
        for name, entrant in ENTRANTS.items():
            fit = fitted(entrant, images, seed, epochs)
            one = measured(fit, images["test"][:count], 50 if quick else NUM_IMPORTANCE)
            found.setdefault(name, []).append(one)
            print(f"{name}, seed {seed}: {one} {fit.status}", flush=True)
    return [_row(name, results, found["VAE"]) for name, results in found.items()]


def _row(name: str, results: list[Result], plain: list[Result]) -> dict[str, Any]:
    values = np.array([one.log_likelihood for one in results])
    gains = values - np.array([one.log_likelihood for one in plain])
    return {
        "model": name,
        "test_log_likelihood": float(values.mean()),
        "standard_error": _error(values),
        "gain_over_vae": float(gains.mean()),
        "gain_error": _error(gains),
        "test_elbo": float(np.mean([one.elbo for one in results])),
        "epochs": float(np.mean([one.epochs for one in results])),
        "seconds_per_fit": float(np.mean([one.seconds for one in results])),
        "by_seed": values.tolist(),
    }


def _error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan
