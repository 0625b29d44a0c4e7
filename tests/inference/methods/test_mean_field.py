import numpy as np
import pytest
import torch

from ppl_models.inference.methods import Normal
from ppl_models.inference.methods.fixed_draws import fixed_draws
from ppl_models.inference.methods.mean_field import MeanField
from tests.inference.methods.doubles import Double, normal_density

RNG = np.random.default_rng(0)
ROOT = np.tril(RNG.standard_normal((3, 3))) + 2.0 * np.eye(3)


def bent(points):
    """A density that is normal in no direction."""
    a, b, c = points.unbind(-1)
    return 3.0 * a - a.exp() - 0.5 * (b - 0.5 * a.square()).square() - (c - a * b).square() - 0.1 * c.pow(4)


def objective(density, *, diagonal=False, mean=(0.1, -0.2, 0.3)):
    root = np.array([0.5, 1.5, 0.7]) if diagonal else ROOT
    begin = Normal(np.array(mean), root, 0.0, 0)
    return MeanField(Double(density, 3), begin, fixed_draws(16, 3, np.random.default_rng(1)))


@pytest.mark.parametrize("diagonal", [False, True])
def test_loss_is_the_negative_elbo_on_the_draws(diagonal):
    found = objective(bent, diagonal=diagonal)
    point = 0.2 * RNG.standard_normal(6)
    mean, log_scale = found.parameters(point)
    values, _ = found.target(mean + np.exp(log_scale) * found.noise)
    entropy = log_scale.sum() + 1.5 * np.log(2.0 * np.pi * np.e)
    np.testing.assert_allclose(found(point)[0], -(values.mean() + entropy), rtol=1e-12)


@pytest.mark.parametrize("diagonal", [False, True])
def test_gradient_and_curvature_agree_with_differences(diagonal):
    found = objective(bent, diagonal=diagonal)
    point, step = 0.2 * RNG.standard_normal(6), 1e-5
    ahead = [found(point + step * unit) for unit in np.eye(6)]
    behind = [found(point - step * unit) for unit in np.eye(6)]
    slope = np.array([(a[0] - b[0]) / (2.0 * step) for a, b in zip(ahead, behind, strict=True)])
    bend = np.array([(a[1] - b[1]) / (2.0 * step) for a, b in zip(ahead, behind, strict=True)])
    curvature = found.curvature(point)
    # central differences err by a third derivative times the step squared
    scale = np.abs(bend).max()
    np.testing.assert_allclose(found(point)[1], slope, atol=1e-7 * scale)
    np.testing.assert_allclose(curvature.dense, bend, atol=1e-6 * scale)
    np.testing.assert_allclose(np.array([curvature(unit) for unit in np.eye(6)]), curvature.dense, atol=1e-10 * scale)


def test_curvature_is_one_where_the_target_is_the_normal_begun_at():
    mean = np.array([0.1, -0.2, 0.3])
    found = objective(normal_density(mean, ROOT))
    loss, gradient = found(np.zeros(6))
    np.testing.assert_allclose(gradient, 0.0, atol=1e-12)
    hessian = found.curvature(np.zeros(6)).dense
    np.testing.assert_allclose(hessian[:3], np.eye(3, 6), atol=1e-10)
    # log scales of correlated latents pull at one another: P_ij squared over P_ii P_jj
    precision = np.linalg.inv(ROOT @ ROOT.T)
    share = precision**2 / np.outer(np.diag(precision), np.diag(precision))
    assert not np.allclose(share, np.eye(3))
    np.testing.assert_allclose(np.diag(hessian)[3:], 1.0, atol=1e-10)
    log_scale = found.parameters(np.zeros(6))[1]
    gap = 0.5 * np.linalg.slogdet(precision)[1] + log_scale.sum()
    np.testing.assert_allclose(loss, -gap, rtol=1e-10)


def test_score_of_groups_is_the_gradient_on_them():
    found = objective(bent)
    groups = np.array([fixed_draws(8, 3, np.random.default_rng(seed)) for seed in range(3)])
    point = 0.1 * RNG.standard_normal(6)
    scores = found.mean_score(point, groups)
    for group, score in zip(groups, scores, strict=True):
        np.testing.assert_allclose(score, MeanField(found.target, found.begin, group)(point)[1], rtol=1e-10)


def test_what_runs_away_is_named():
    found = objective(lambda points: torch.zeros(len(points), dtype=points.dtype) + 0.0 * points.sum(-1), diagonal=True)
    point = np.zeros(6)
    assert not found.runs_away(point).any()
    point[4] = np.sqrt(2.0) * 19.0
    assert found.runs_away(point).tolist() == [False, True, False]
    point[0] = -2e8
    assert found.runs_away(point).tolist() == [True, True, False]
