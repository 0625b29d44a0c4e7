"""Which counts suit single cells? Negative binomial and Poisson autoencoders on cells that were not seen."""

import math
from typing import Any

import numpy as np
import torch
from torch import nn

import guides
import ppl_models as ppl
from guides.networks import MLP
from ppl_models import datasets
from ppl_models.autoencoders import SingleCellVAE

SEEDS = (1, 2, 3)
LATENT_DIM, WIDTH = 8, 64
MAX_EPOCHS, PATIENCE = 200, 30
NUM_IMPORTANCE = 200
COUNTS = ("poisson", "negative_binomial")


def rows(quick: bool) -> list[dict[str, Any]]:
    """A row for each kind of counts, by the same seeds and splits; the gain is over Poisson."""
    table = datasets.pbmc()
    x = torch.tensor(table["counts"], dtype=torch.float64)
    parts = datasets.split(len(x), validation=0.1, test=0.2, seed=0)
    found: dict[str, list[float]] = {}
    others: dict[str, list[tuple[float, int]]] = {}
    for seed in SEEDS[:1] if quick else SEEDS:
        for counts in COUNTS:
            fit = _fitted(counts, x[parts.train], x[parts.validation], seed, 2 if quick else MAX_EPOCHS)
            bound = ppl.importance_bound(
                fit.at({"x": x[parts.test]}), num_importance=(1, NUM_IMPORTANCE), num_draws=10 * NUM_IMPORTANCE, seed=1
            )
            found.setdefault(counts, []).append(float(bound.by_datum[-1].mean()))
            others.setdefault(counts, []).append((fit.seconds, len(fit.history)))
    plain = np.array(found[COUNTS[0]])
    return [
        {
            "counts": counts,
            "test_log_likelihood": float(np.mean(values)),
            "standard_error": _error(np.array(values)),
            "gain_over_poisson": float(np.mean(np.array(values) - plain)),
            "gain_error": _error(np.array(values) - plain),
            "epochs": float(np.mean([epochs for _, epochs in others[counts]])),
            "seconds_per_fit": float(np.mean([seconds for seconds, _ in others[counts]])),
            "by_seed": values,
        }
        for counts, values in found.items()
    ]


def _fitted(counts: str, train: torch.Tensor, validation: torch.Tensor, seed: int, max_epochs: int) -> ppl.Fit:
    num_genes = train.shape[1]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = SingleCellVAE(
            MLP(LATENT_DIM, num_genes, (WIDTH,), nn.Softplus), LATENT_DIM, num_features=num_genes, counts=counts
        ).double()
        encoder = MLP(num_genes, WIDTH, (WIDTH,)).double()
    return ppl.fit(
        model,
        {"x": train},
        guide=guides.amortized(model, encoder=encoder, inputs=_logs),
        held_out={"x": validation},
        batch_size=100,
        max_epochs=max_epochs,
        patience=PATIENCE,
        step_size=0.003,
        seed=seed,
    )


def _logs(x: torch.Tensor | None = None, num_rows: int | None = None) -> torch.Tensor:
    """What the encoder sees: logarithms of counts."""
    assert x is not None
    return torch.log1p(x)


def _error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan
