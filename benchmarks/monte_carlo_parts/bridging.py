"""Evidence by bridge sampling: against closed forms, from MCMC draws and from exact ones."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyro
import torch
from pyro import distributions as dist

import ppl_models as ppl
from ppl_models import datasets
from ppl_models.inference.evidence.bridge_evidence import bridge_evidence

NUM_COMPONENTS = 3


@dataclass(frozen=True)
class Problem:
    """A model with its data, and the log evidence of them in nats."""

    name: str
    model: Callable[..., Any]
    data: Mapping[str, Any]
    truth: float


def rows(quick: bool) -> list[dict[str, Any]]:
    """One row for each problem and each density at the other end of the bridge."""
    found = []
    for problem in (regression(), rate(), ppca(20 if quick else 60)):
        began = time.perf_counter()
        draws = ppl.sample(problem.model, problem.data, draws=500 if quick else 2_000, seed=1)
        sampling = time.perf_counter() - began
        began = time.perf_counter()
        fit = ppl.fit(problem.model, problem.data, guide="normal", seed=2)
        fitting = time.perf_counter() - began
        for proposal, name, before in (
            ("normal", "normal of half the draws", sampling),
            ("t", "t of half the draws", sampling),
            (fit, "fit by 'normal'", sampling + fitting),
        ):
            found.append(_row(problem, name, bridge_evidence(fit.program, draws, proposal=proposal, seed=3), before))
    return found


def _row(problem: Problem, method: str, found: Any, before: float) -> dict[str, Any]:
    estimate, error = float(found.log_evidence), float(found.standard_error)
    failed = [f"{check.name} {check.measured}" for check in found.checks if check.passed is not True]
    return {
        "problem": problem.name,
        "method": method,
        "truth": problem.truth,
        "estimate": estimate,
        "standard_error": error,
        "error_in_standard_errors": (estimate - problem.truth) / error,
        "seconds": found.seconds,
        "seconds_before": before,
        "health": "; ".join(failed) or "passed",
    }


def regression() -> Problem:
    """Ten weights ~ Normal(0, 1), a hundred rows with unit noise."""

    def model(x: torch.Tensor, y: torch.Tensor) -> None:
        weights = pyro.sample("weights", dist.Normal(torch.zeros(x.shape[-1]), 1.0).to_event(1))
        with pyro.plate("row", len(x)):
            pyro.sample("y", dist.Normal((x * weights).sum(-1), 1.0), obs=y)

    rng = np.random.default_rng(1)
    x = rng.normal(size=(100, 10)) + rng.normal(size=(100, 1))  # columns that depend on one another
    y = x @ rng.normal(size=10) + rng.normal(size=100)
    truth = _log_normal(y, x @ x.T + np.eye(100))
    return Problem("regression, 10 weights", model, {"x": torch.tensor(x), "y": torch.tensor(y)}, truth)


def rate() -> Problem:
    """A rate ~ Gamma(2, 1) of seven counts: a skewed posterior and a bound."""

    def model(y: torch.Tensor) -> None:
        value = pyro.sample("rate", dist.Gamma(2.0, 1.0))
        with pyro.plate("day", len(y)):
            pyro.sample("y", dist.Poisson(value), obs=y)

    y = torch.tensor([0.0, 1.0, 0.0, 0.0, 2.0, 0.0, 1.0])
    total, number = float(y.sum()), len(y)
    factorials = sum(math.lgamma(float(value) + 1.0) for value in y)
    truth = math.lgamma(2.0 + total) - (2.0 + total) * math.log(1.0 + number) - factorials
    return Problem("rate of counts", model, {"y": y}, truth)


def ppca(num_images: int) -> Problem:
    """Digits of eight by eight pixels given their principal loadings: three latents for each image."""

    def model(loadings: torch.Tensor, noise: torch.Tensor, y: torch.Tensor) -> None:
        with pyro.plate("image", len(y)):
            z = pyro.sample("z", dist.Normal(torch.zeros(loadings.shape[1]), 1.0).to_event(1))
            pyro.sample("y", dist.Normal(z @ loadings.mT, noise).to_event(1), obs=y)

    pixels = datasets.digits()["pixels"][:num_images]
    centred = (pixels - pixels.mean(axis=0)) / pixels.std()
    _, lengths, axes = np.linalg.svd(centred, full_matrices=False)
    variances = lengths**2 / len(centred)
    noise = variances[NUM_COMPONENTS:].sum() / (centred.shape[1] - NUM_COMPONENTS)
    loadings = axes[:NUM_COMPONENTS].T * np.sqrt(variances[:NUM_COMPONENTS] - noise)
    covariance = loadings @ loadings.T + noise * np.eye(centred.shape[1])
    truth = sum(_log_normal(image, covariance) for image in centred)
    values = {"loadings": loadings, "noise": np.sqrt(noise), "y": centred}
    data = {name: torch.tensor(value) for name, value in values.items()}
    return Problem(f"pPCA of digits, {NUM_COMPONENTS * num_images} latents", model, data, float(truth))


def _log_normal(value: np.ndarray, covariance: np.ndarray) -> float:
    return -0.5 * float(value @ np.linalg.solve(covariance, value) + np.linalg.slogdet(2.0 * np.pi * covariance)[1])
