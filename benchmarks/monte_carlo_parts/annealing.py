"""Two-sided evidence by annealing, of handwritten digits under probabilistic PCA, against the closed form."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyro
import torch
from pyro import distributions as dist

from ppl_models import datasets
from ppl_models.inference.evidence.result import Evidence
from ppl_models.workflow.evidence import log_evidence

NUM_COMPONENTS = 10
NUM_CHAINS = 64
NUM_TEMPERATURES = 1_000


@dataclass(frozen=True)
class Digits:
    """Digits of eight by eight pixels with fixed loadings, and what is known of them.

    Attributes:
        data: arguments of `model`.
        truth: log evidence of each digit, nats, shape (image,).
        posterior: exact posterior draws of the latents, shape (draw, image, component).
    """

    data: dict[str, torch.Tensor]
    truth: np.ndarray
    posterior: torch.Tensor


def model(loadings: torch.Tensor, noise: torch.Tensor, y: torch.Tensor) -> None:
    """Latents of each image ~ Normal(0, 1); pixels ~ Normal(W z, noise)."""
    with pyro.plate("image", len(y)):
        z = pyro.sample("z", dist.Normal(torch.zeros(loadings.shape[1]), 1.0).to_event(1))
        pyro.sample("y", dist.Normal(z @ loadings.mT, noise).to_event(1), obs=y)


def digits(num_images: int, num_draws: int = NUM_CHAINS) -> Digits:
    """The first digits, with the loadings of largest likelihood of all (Tipping and Bishop 1999)."""
    pixels = datasets.digits()["pixels"]
    centred = pixels - pixels.mean(axis=0)
    _, lengths, axes = np.linalg.svd(centred / np.sqrt(len(centred)), full_matrices=False)
    variance = (lengths[NUM_COMPONENTS:] ** 2).mean()
    loadings = axes[:NUM_COMPONENTS].T * np.sqrt(lengths[:NUM_COMPONENTS] ** 2 - variance)
    w, y = torch.tensor(loadings), torch.tensor(centred[:num_images])
    covariance = w @ w.mT + variance * torch.eye(y.shape[1], dtype=y.dtype)
    truth = torch.distributions.MultivariateNormal(torch.zeros(y.shape[1], dtype=y.dtype), covariance).log_prob(y)
    precision = w.mT @ w / variance + torch.eye(NUM_COMPONENTS, dtype=y.dtype)
    mean = torch.linalg.solve(precision, w.mT @ y.mT / variance).mT
    root = torch.linalg.cholesky(torch.linalg.inv(precision))
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(num_draws, *mean.shape, dtype=y.dtype, generator=generator)
    data = {"loadings": w, "noise": torch.tensor(np.sqrt(variance)), "y": y}
    return Digits(data, truth.numpy(), mean + noise @ root.mT)


def rows(quick: bool) -> list[dict[str, Any]]:
    """One row for each number of digits and method."""
    steps = 100 if quick else NUM_TEMPERATURES
    found = []
    for num_images in (1, 10) if quick else (1, 100):
        problem = digits(num_images)
        options = {"by_datum": True, "num_chains": NUM_CHAINS, "seed": 1}
        exact_draws, own_ends = ("exact draws", {"z": problem.posterior}), ("own ends", None)
        for starts, draws in (exact_draws, own_ends) if num_images == 1 else (exact_draws,):
            exact = None if draws is None else True
            result = log_evidence(
                model,
                problem.data,
                method="bidirectional",
                draws=draws,
                exact=exact,
                num_temperatures=steps,
                backend="auto" if quick or num_images == 1 else "native",
                **options,
            )
            found.append(_row(f"bidirectional from {starts}", result, problem))
        if num_images == 1:
            result = log_evidence(model, problem.data, method="thermodynamic", **options)
            found.append(_row("thermodynamic", result, problem))
    return found


def _row(method: str, found: Evidence, problem: Digits) -> dict[str, Any]:
    assert found.lower is not None
    assert found.upper is not None
    away = found.log_evidence - problem.truth
    width = found.upper - found.lower
    failed = [f"{check.name} {check.measured}" for check in found.checks if check.passed is not True]
    return {
        "method": method,
        "digits": len(problem.truth),
        "temperatures": found.config["num_temperatures"],
        "lower_less_truth": float((found.lower - problem.truth).mean()),
        "upper_less_truth": float((found.upper - problem.truth).mean()),
        "widest_bracket": float(np.abs(width).max()),
        "mean_bracket": float(width.mean()),
        "largest_error": float(np.abs(away).max()),
        "mean_standard_error": float(found.standard_error.mean()),
        "covered": float(np.mean((found.interval[0] <= problem.truth) & (problem.truth <= found.interval[1]))),
        "seconds": found.seconds,
        "backend": found.config["backend"],
        "health": "; ".join(failed) or "passed",
    }
