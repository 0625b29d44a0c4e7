"""One audit that several tests look at."""

from functools import cache

import torch
from scipy.stats import norm

from ppl_models.workflow.audit.posteriors import audit_posteriors
from tests.inference.by_datum.linear_gaussian import fit, rows

X = rows(6, seed=8)
SOUND, FAULTY = slice(0, 3), slice(3, 6)
SHIFT, WIDTH = 0.3, 0.5
LIMIT = norm.isf(0.001 / 60)
SMALL = {"num_warmup": 30, "num_draws": 120, "num_guide_draws": 1_000, "num_temperatures": 10}


@cache
def audited():
    """One audit: the encoder is exact in the first rows, and shifted and too narrow in the others."""
    fault = torch.tensor([0.0] * 3 + [1.0] * 3, dtype=torch.float64)
    made = fit(X, shift=SHIFT * fault, width=1.0 + (WIDTH - 1.0) * fault)
    return audit_posteriors(made, seed=1, **SMALL)
