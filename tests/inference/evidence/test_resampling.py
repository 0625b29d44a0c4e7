"""Resampling: every particle has as many children as its weight says, on average, and none without weight."""

import numpy as np
import pytest
import torch
from randomness import seeded
from scipy.stats import norm

from ppl_models.inference.evidence.resampling import RESAMPLERS, resample

WEIGHTS = torch.tensor([0.0, 0.31, 0.02, 0.17, 0.0, 0.5, 0.0], dtype=torch.float64)


def children(resampling, weights, num_runs=20_000):
    with seeded(1):
        ancestors = RESAMPLERS[resampling](weights.expand(num_runs, -1).contiguous())
    assert ancestors.shape == (num_runs, len(weights))
    return torch.nn.functional.one_hot(ancestors, len(weights)).sum(1).double().numpy()


@pytest.mark.statistical
@pytest.mark.parametrize("resampling", RESAMPLERS)
def test_number_of_children(resampling):
    found, expected = children(resampling, WEIGHTS), len(WEIGHTS) * WEIGHTS.numpy()
    assert (found[:, WEIGHTS.numpy() == 0.0] == 0).all()
    error = found.std(axis=0, ddof=1) / np.sqrt(len(found))
    away = np.abs(found.mean(axis=0) - expected)
    assert (away <= norm.isf(0.0005 / 28) * error + 1e-12).all()


def test_less_noise_than_independent_draws():
    sizes = {name: children(name, WEIGHTS).var(axis=0).sum() for name in RESAMPLERS}
    assert sizes["systematic"] < sizes["multinomial"]
    assert sizes["stratified"] < sizes["multinomial"]
    assert sizes["residual"] < sizes["multinomial"]


@pytest.mark.parametrize("resampling", ["systematic", "stratified", "residual"])
def test_whole_numbers_of_children_are_given_without_noise(resampling):
    found = children(resampling, torch.tensor([0.5, 0.25, 0.25, 0.0], dtype=torch.float64), 200)
    assert (found == [2, 1, 1, 0]).all()


@pytest.mark.parametrize("resampling", RESAMPLERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_particle_may_hold_all_the_weight(resampling, dtype):
    assert (children(resampling, torch.tensor([0.0, 0.0, 1.0, 0.0], dtype=dtype), 500) == [0, 0, 4, 0]).all()


def test_only_runs_in_need_are_resampled():
    log_weights = WEIGHTS.clamp_min(1e-300).log().expand(2, -1)
    with seeded(2):
        ancestors, after = resample(log_weights, torch.tensor([False, True]), RESAMPLERS["systematic"])
    assert ancestors[0].tolist() == list(range(7))
    torch.testing.assert_close(after[0], log_weights[0])
    torch.testing.assert_close(after[1].exp(), torch.full((7,), 1.0 / 7.0, dtype=torch.float64))
