"""The audit of a nonlinear VAE on digits it has not seen: bounds in order, the bracket's width, gaps, seconds."""

from itertools import pairwise
from typing import Any

import numpy as np
import torch

import ppl_models as ppl
from ppl_models import datasets

PROBLEM = "vae_digits"
NUM_ROWS = 100
MAX_EPOCHS = 200
SIDES = 3.0
"""Standard errors within which bounds must be in order."""


def trained(quick: bool, max_epochs: int, beta: float = 1.0) -> tuple[ppl.Fit, torch.Tensor]:
    """The catalogue's VAE fitted to the digits of a fixed split, and digits that it and its stopping have not seen."""
    problem = ppl.load(PROBLEM)
    rows = datasets.split(len(problem.data["x"]), validation=0.1, test=0.1, seed=0)
    x = problem.data["x"]
    fit = ppl.fit(
        problem.model,
        {"x": x[rows.train]},
        guide=problem.guides["amortized"],
        held_out={"x": x[rows.validation]},
        batch_size=128,
        max_epochs=3 if quick else max_epochs,
        patience=25,
        warmup_epochs=0 if quick else 10,
        beta=beta,
        seed=1,
    )
    return fit, x[rows.test]


def rows(quick: bool) -> list[dict[str, Any]]:
    """Means over the digits, and shares of them."""
    fit, x = trained(quick, MAX_EPOCHS)
    audit = ppl.audit(fit, {"x": x[: 5 if quick else NUM_ROWS]}, seed=2)
    found = audit.posteriors
    bounds = [found.bounds[size] for size in sorted(found.bounds)]
    chain = [*bounds, found.log_evidence, found.upper]
    ordered = np.ones(found.num_rows, dtype=bool)
    for one, other in pairwise(chain):
        ordered &= one.value <= other.value + SIDES * np.hypot(one.error, other.error)
    named = {f"L_{size}": found.bounds[size].mean for size in sorted(found.bounds)}
    return [
        {
            "rows": found.num_rows,
            **named,
            "log_evidence": found.log_evidence.mean,
            "reverse_ais": found.upper.mean,
            "bracket_mean": float(found.bracket.mean()),
            "bracket_widest": float(found.bracket.max()),
            "in_order": float(ordered.mean()),
            "amortisation_gap": found.amortisation_gap.mean,
            "amortisation_error": found.amortisation_gap.mean_error,
            "approximation_gap": found.approximation_gap.mean,
            "approximation_error": found.approximation_gap.mean_error,
            "khat_above_0.7": float((found.khat > 0.7).mean()),
            "nuts_passes": float(found.reliable.mean()),
            "verdict": audit.verdict,
            "fit_seconds": fit.seconds,
            "audit_seconds": sum(audit.seconds.values()),
            "seconds_by_part": dict(audit.seconds),
        }
    ]
