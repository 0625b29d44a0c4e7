import numpy as np
import pytest
import torch

from ppl_models.errors import OptionError
from ppl_models.inference.methods import METHODS, Normal, sandwich
from tests.inference.methods.doubles import Double, normal_density, run

DADVI = METHODS["dadvi"]


def gaussian(num_dims, seed=0, condition=1e6):
    """Mean and root of a normal whose covariance has a given condition."""
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.standard_normal((num_dims, num_dims)))[0]
    values = np.geomspace(1.0, condition, num_dims) if num_dims > 1 else np.array([condition])
    return 3.0 * rng.standard_normal(num_dims), np.linalg.cholesky((axes * values) @ axes.T)


def bent(points):
    """A log-gamma latent, and one around its square whose tails are lighter than a normal's."""
    a, b = points.unbind(-1)
    return 3.0 * a - a.exp() - 0.5 * (b - 0.5 * a.square()).square() - 0.05 * b.pow(4)


@pytest.mark.parametrize("num_dims", [1, 2, 20])
def test_on_a_normal_the_mean_is_exact_and_the_scale_that_of_each_given_the_others(num_dims):
    mean, root = gaussian(num_dims)
    found = run(Double(normal_density(mean, root), num_dims), DADVI)
    scale = np.diag(np.linalg.inv(root @ root.T)) ** -0.5
    assert found.status == "converged"
    assert found.arrival.arrived
    np.testing.assert_allclose((found.approximation.mean - mean) / scale, 0.0, atol=1e-6)
    np.testing.assert_allclose(found.approximation.root, scale, rtol=1e-6)
    assert found.evidence["draw_error"] < 1e-6
    precision = np.linalg.inv(root @ root.T)
    gap = 0.5 * (np.log(np.diag(precision)).sum() - np.linalg.slogdet(precision)[1])
    np.testing.assert_allclose(found.evidence["elbo"], -gap, rtol=1e-6, atol=1e-9)


@pytest.mark.statistical
@pytest.mark.parametrize("planted", [False, True])
def test_the_error_of_the_draws_is_the_spread_over_seeds(planted, monkeypatch):
    """An error that took the draws for independent ones would be too large."""
    if planted:
        monkeypatch.setattr(sandwich, "fixed_draws", _antithetic_only)
    begin = Normal(np.array([1.0, 0.5]), np.array([0.6, 1.0]), 0.0, 0)
    means, scales, errors = [], [], []
    for seed in range(200):
        found = run(Double(bent, 2), DADVI, begin=begin, seed=seed, tolerance=1e6)
        means.append(found.approximation.mean)
        scales.append(found.approximation.root)
        of_mean, of_scale = found.evidence["draw_error_of_mean"], found.evidence["draw_error_of_log_sd"]
        errors.append([of_mean["z0"], of_mean["z1"], of_scale["z0"], of_scale["z1"]])
    figures = np.concatenate([np.array(means) / np.mean(scales, axis=0), np.log(scales)], axis=1)
    away = np.square(figures - figures.mean(axis=0)) * len(figures) / (len(figures) - 1)
    difference = away - np.square(errors)
    score = difference.mean(axis=0) / (difference.std(axis=0, ddof=1) / np.sqrt(len(figures)))
    assert (np.abs(score).max() > 5.0) == planted
    # the errors themselves are linear in the draws, which leaves a few hundredths
    if not planted:
        np.testing.assert_allclose(np.sqrt(np.mean(np.square(errors), axis=0) / away.mean(axis=0)), 1.0, atol=0.25)


def _antithetic_only(num_pairs, num_dims, rng):
    half = rng.standard_normal((num_pairs, num_dims))
    return np.concatenate([half, -half])


def test_more_draws_are_taken_until_their_choice_does_not_matter():
    rough = run(Double(bent, 2), DADVI, tolerance=1e6)
    fine = run(Double(bent, 2), DADVI, tolerance=0.006)
    assert rough.evidence["num_draws"] == 128
    assert fine.evidence["num_draws"] > 256
    assert fine.evidence["draw_error"] <= 0.006 < rough.evidence["draw_error"]
    assert len(fine.losses) > len(rough.losses)


def test_an_error_that_no_number_of_draws_removes_is_reported():
    found = run(Double(bent, 2), DADVI, tolerance=1e-7)
    assert found.evidence["num_draws"] == 8_192
    assert "over the tolerance of 1e-07" in found.note


def test_same_seed_same_fit_and_another_seed_another():
    one, two, other = (run(Double(bent, 2), DADVI, seed=seed).approximation.mean for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("density", [lambda x: 0.0 * x.sum(-1), lambda x: -0.5 * x[:, 0].square() + x[:, 1]])
@pytest.mark.parametrize("begin", [None, Normal(np.zeros(2), np.ones(2), 0.0, 0)])
def test_densities_that_do_not_fall_off_are_no_convergence(density, begin):
    found = run(Double(density, 2), DADVI, begin=begin)
    assert found.status == "diverged"
    assert "'z1'" in found.note
    assert "no scale along" in found.note


def test_points_without_a_density_are_kept_out_of():
    def half(points):
        inside = points[:, 0] > 0.0
        safe = torch.where(inside, points[:, 0], 1.0)
        return torch.where(inside, 40.0 * safe.log() - 40.0 * safe, torch.nan)

    found = run(Double(half, 1), DADVI, start=[1.3])
    assert found.status == "converged"
    assert found.approximation.mean > 0.0


def test_no_density_anywhere_is_said():
    found = run(Double(lambda x: torch.nan * x.sum(-1), 2), DADVI)
    assert found.status == "diverged"
    assert "not finite" in found.note


@pytest.mark.parametrize(("given", "status"), [({"seconds": -1.0}, "out_of_time"), ({"max_steps": 1}, "max_steps")])
def test_budgets_are_kept(given, status):
    found = run(Double(bent, 2), DADVI, begin=Normal(np.array([-1.0, 3.0]), np.full(2, 0.3), 0.0, 0), **given)
    assert found.status == status
    assert np.isfinite(found.approximation.mean).all()


@pytest.mark.parametrize("options", [{"num_draws": 1}, {"num_draws": 2.5}, {"tolerance": 0.0}])
def test_options_out_of_range_are_named(options):
    with pytest.raises(OptionError, match=f"method_options: {next(iter(options))}"):
        run(Double(bent, 2), DADVI, **options)


def test_only_independent_normals_are_offered():
    """A dense normal's objective on fixed draws has no bound where dims are more than draws."""
    assert DADVI.families == ("normal",)
