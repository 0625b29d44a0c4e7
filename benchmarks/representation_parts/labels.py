"""A hundred labels among digits: labels summed out, labels sampled, and a classifier that has the labels alone."""

import math
from typing import Any

import numpy as np
import torch
from torch import nn

import ppl_models as ppl
from guides.amortization.normal import NormalHead
from guides.networks import MLP
from ppl_models import datasets
from ppl_models.autoencoders import SemiSupervisedVAE

SEEDS = (1, 2, 3, 4, 5)
NUM_LABELS, NUM_CLASSES = 100, 10
LATENT_DIM, WIDTH = 3, 128
ALPHA = 50.0
"""Both by validation accuracy at a seed that is none of these: with ten latents the digits' classes are styles."""
MAX_EPOCHS, CLASSIFIER_STEPS = 150, 500
PLAIN = "classifier alone"
UNLABELLED = -1


def rows(quick: bool) -> list[dict[str, Any]]:
    """A row for each way, accuracy on digits neither trained nor labelled; means and errors over seeds of labels."""
    table = datasets.digits()
    x = torch.tensor(datasets.binarised(table["pixels"], seed=None))
    y = torch.tensor(table["digit"])
    found: dict[str, list[float]] = {}
    seconds: dict[str, list[float]] = {}
    for seed in SEEDS[:1] if quick else SEEDS:
        parts = datasets.split(table["digit"], validation=0.0, test=0.2, seed=seed)
        train, test = torch.as_tensor(parts.train), torch.as_tensor(parts.test)
        known = labelled(y[train], seed)
        classifier = _classifier(seed)
        trained(classifier, x[train][known >= 0], known[known >= 0])
        found.setdefault(PLAIN, []).append(accuracy(classifier, x[test], y[test]))
        for labels in ("enumerated", "sampled"):
            fit = _fitted(x[train], known, labels, seed, 2 if quick else MAX_EPOCHS)
            module = fit.program.model.__wrapped__
            with fit.program.isolated(seed=0):
                found.setdefault(labels, []).append(accuracy(module.classifier, x[test], y[test]))
            seconds.setdefault(labels, []).append(fit.seconds)
    summed = np.array(found["enumerated"])
    return [
        {
            "labels": name,
            "test_accuracy": float(np.mean(values)),
            "standard_error": _error(np.array(values)),
            "enumerated_gains": float(np.mean(summed - np.array(values))),
            "gain_error": _error(summed - np.array(values)),
            "seconds_per_fit": float(np.mean(seconds.get(name, [math.nan]))),
            "by_seed": values,
        }
        for name, values in found.items()
    ]


def labelled(y: torch.Tensor, seed: int) -> torch.Tensor:
    """The labels of ten rows of each class; -1 for all others."""
    generator = torch.Generator().manual_seed(seed)
    known = torch.full_like(y, UNLABELLED)
    for label in range(NUM_CLASSES):
        of_class = torch.nonzero(y == label)[:, 0]
        chosen = of_class[torch.randperm(len(of_class), generator=generator)[: NUM_LABELS // NUM_CLASSES]]
        known[chosen] = label
    return known


def trained(classifier: nn.Module, x: torch.Tensor, y: torch.Tensor) -> None:
    """Train a classifier on the labelled rows alone."""
    optimizer = torch.optim.Adam(classifier.parameters(), lr=1e-3, weight_decay=1e-3)
    for _ in range(CLASSIFIER_STEPS):
        optimizer.zero_grad()
        nn.functional.cross_entropy(classifier(x), y).backward()
        optimizer.step()


def accuracy(classifier: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    """Share of the rows whose most probable label is theirs."""
    with torch.no_grad():
        return float((classifier(x).argmax(-1) == y).double().mean())


def _classifier(seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return MLP(64, NUM_CLASSES, (WIDTH,)).double()


def _fitted(x: torch.Tensor, known: torch.Tensor, labels: str, seed: int, max_epochs: int) -> ppl.Fit:
    classifier = _classifier(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed + 100)
        model = SemiSupervisedVAE(
            MLP(LATENT_DIM + NUM_CLASSES, 64, (WIDTH,)),
            LATENT_DIM,
            num_classes=NUM_CLASSES,
            classifier=classifier,
            posterior=nn.Sequential(MLP(64 + NUM_CLASSES, WIDTH, ()), nn.ReLU(), NormalHead(WIDTH, LATENT_DIM)),
            alpha=ALPHA,
            labels=labels,
            likelihood="bernoulli",
            num_features=64,
        ).double()
    return ppl.fit(
        model,
        {"x": x, "y": known},
        guide=model.guide,
        batch_size=100,
        max_epochs=max_epochs,
        step_size=1e-3,
        estimator="score" if labels == "sampled" else "auto",
        num_particles=2 if labels == "sampled" else 1,
        max_seconds=900.0,
        seed=seed,
    )


def _error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan
