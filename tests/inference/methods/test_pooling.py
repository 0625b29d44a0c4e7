"""Weights of normals in a mixture, against weights that are known."""

import numpy as np
import torch

from ppl_models.inference.methods import Normal
from ppl_models.inference.methods.normals import (
    component_densities,
    divergence,
    log_density,
    mixture_density,
    moved,
)
from ppl_models.inference.methods.pooling import mixture_khat, nearest_weights, pooled
from ppl_models.inference.methods.smoothing import smoothed_weights
from tests.inference.methods.doubles import Double

Z = 4.0
DRAWS = 4_000


def normal(mean, root):
    return Normal(np.atleast_1d(np.asarray(mean, dtype=float)), np.atleast_2d(root), 0.0, 0)


NEAR = (normal(0.0, 1.0), normal(1.5, 0.7), normal(-30.0, 1.0))
WEIGHTS = np.array([0.35, 0.65, 0.0])


def overlapping(x):
    parts = [torch.distributions.Normal(q.mean[0], q.root[0, 0]).log_prob(x[:, 0]) for q in NEAR[:2]]
    return torch.logaddexp(parts[0] + np.log(WEIGHTS[0]), parts[1] + np.log(WEIGHTS[1]))


def test_densities_agree_with_torch():
    root = np.array([[1.0, 0.0], [2.0, 0.3]])
    points = np.random.default_rng(0).standard_normal((5, 2))
    tril = torch.as_tensor(root)
    wanted = torch.distributions.MultivariateNormal(torch.ones(2).double(), scale_tril=tril)
    dense = Normal(np.ones(2), root, 0.0, 0)
    np.testing.assert_allclose(log_density(dense, points), wanted.log_prob(torch.as_tensor(points)), rtol=1e-10)
    other = Normal(np.zeros(2), np.array([0.5, 2.0]), 0.0, 0)
    theirs = torch.distributions.MultivariateNormal(
        torch.zeros(2).double(), scale_tril=torch.as_tensor(other.root).diag()
    )
    kl = torch.distributions.kl_divergence(wanted, theirs)
    np.testing.assert_allclose(divergence(dense, other), float(kl), rtol=1e-10)


def test_weights_of_overlapping_normals_are_found_and_a_useless_one_is_left_out():
    found = pooled(Double(overlapping, 1), NEAR, DRAWS, 3, np.random.default_rng(0))
    assert found.places == (0, 1)
    # The error of weighted maximum likelihood: inverse information, times the variance of the weighted scores.
    rng = np.random.default_rng(1)
    points = np.concatenate([moved(q, rng.standard_normal((50_000, 1))) for q in NEAR])
    logs = component_densities(NEAR, points)
    truth = mixture_density(WEIGHTS, logs)
    ratio = np.exp(truth - mixture_density(np.full(3, 1.0 / 3.0), logs))
    score = np.exp(logs[:, 0] - truth) - np.exp(logs[:, 1] - truth)
    error = np.sqrt(np.var(ratio * score) / DRAWS) / np.mean(ratio * score**2)
    assert abs(found.weights[0] - WEIGHTS[0]) < Z * error < abs(0.5 - WEIGHTS[0])


def test_the_weights_are_where_the_likelihood_is_largest():
    rng = np.random.default_rng(2)
    points = rng.standard_normal((300, 1)) + 0.8
    importance = rng.random(300)
    logs = component_densities(NEAR[:2], points)
    found = nearest_weights(logs, importance)
    share = np.exp(logs - mixture_density(found, logs)[:, None])
    gradient = (importance / importance.sum()) @ share
    np.testing.assert_allclose(gradient, 1.0, atol=1e-4)  # Lagrange: equal where both have weight


def test_khat_tells_a_mixture_that_is_too_narrow():
    target, rng = Double(overlapping, 1), np.random.default_rng(3)
    assert mixture_khat(target, WEIGHTS[:2], NEAR[:2], DRAWS, rng) < 0.1
    narrow = [normal(q.mean, 0.4 * q.root) for q in NEAR[:2]]
    assert mixture_khat(target, WEIGHTS[:2], narrow, DRAWS, rng) > 0.5


def test_smoothed_weights_of_hopeless_ratios_are_usable():
    weights, khat = smoothed_weights(np.full(200, -np.inf))
    assert not weights.any()
    assert np.isnan(khat)
    weights, khat = smoothed_weights(np.array([0.0, *np.full(199, np.nan)]))
    assert weights[0] == 1.0
    assert np.isnan(khat)
    weights, khat = smoothed_weights(np.full(200, 3.0))
    np.testing.assert_allclose(weights, 1.0 / 200.0)
    assert khat == 0.0
