"""A nonlinear autoencoder of digits: the order of the bounds, row by row, and a narrow bracket."""

import pytest
import torch
from torch import nn

import guides
import ppl_models as ppl
from ppl_models import datasets
from ppl_models.autoencoders import VAE
from ppl_models.workflow.audit.posteriors import audit_posteriors


@pytest.mark.exhaustive
def test_bounds_hold_on_digits():
    x = (torch.as_tensor(datasets.digits()["pixels"]) > 8).double()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vae = VAE(nn.Sequential(nn.Linear(5, 100), nn.Tanh(), nn.Linear(100, 64)), 5, num_features=64)
        guide = guides.amortized(vae, hidden=(100,))
    fit = ppl.fit(vae, {"x": x}, guide=guide, batch_size=128, max_epochs=60, step_size=2e-3, seed=1)
    audit = audit_posteriors(fit, {"x": x[:40]}, num_draws=300, seed=2)
    order = next(check for check in audit.checks if check.name == "bounds out of order")
    assert order.passed
    assert abs(audit.bracket.mean()) < 1.0
    assert (audit.amortisation_gap.value > -5.0 * audit.amortisation_gap.error).all()
    assert audit.approximation_gap.mean > 0.0
