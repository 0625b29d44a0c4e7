"""Pathfinder: exact on normals, weights of modes, an earlier normal where the mode is worthless, honest ends."""

import numpy as np
import pytest
import torch

import ppl_models as ppl
from ppl_models.errors import OptionError
from ppl_models.inference.methods import Mixture, Normal, as_normal
from ppl_models.inference.methods.normals import component_densities, mixture_density
from ppl_models.inference.methods.pathfinder import PATHFINDER
from tests import closed_forms
from tests.inference.methods import densities
from tests.inference.methods.doubles import Double, run

EXACT = 1e-6
DRAWS = 1_000


@pytest.mark.parametrize("condition", [1.0, 1e6])
@pytest.mark.parametrize("dim", [1, 2, 20, 100])
def test_normal_targets_are_exact(dim, condition):
    target, mean, root = densities.normal(dim, condition)
    found = run(target, PATHFINDER)
    assert found.status == "converged"
    assert found.arrival.arrived
    assert found.evidence["khat"] < 0.5
    for normal in found.approximation.normals:
        assert max(densities.errors(normal, mean, root)) < EXACT


def test_it_does_not_depend_on_the_latents_scales():
    target, mean, root = densities.unscaled()
    found = run(target, PATHFINDER)
    assert found.status == "converged"
    assert max(densities.errors(as_normal(found.approximation), mean, root)) < EXACT


@pytest.mark.parametrize("seed", range(5))
def test_two_modes_get_their_weights(seed):
    found = run(Double(densities.two_modes, 2), PATHFINDER, seed=seed, num_paths=12)
    mixture = found.approximation
    assert isinstance(mixture, Mixture)
    assert len(mixture.weights) == 8
    first = sum(w for w, q in zip(mixture.weights, mixture.normals, strict=True) if q.mean[0] < 0.0)
    # No worse than as many draws of the posterior would tell.
    error = np.sqrt(densities.SHARE * (1.0 - densities.SHARE) / DRAWS)
    assert abs(first - densities.SHARE) < 4.0 * error < 0.5 - densities.SHARE
    for normal in mixture.normals:
        side = int(normal.mean[0] > 0.0)
        assert max(densities.errors(normal, densities.MODES[side], densities.ROOTS[side])) < 1e-4


def test_the_weights_sum_to_one_and_splitting_changes_no_density():
    target = Double(densities.two_modes, 2)
    few, many = (run(target, PATHFINDER, num_components=count).approximation for count in (2, 7))
    points = np.random.default_rng(0).standard_normal((50, 2)) * 5.0
    logs = [mixture_density(m.weights, component_densities(m.normals, points)) for m in (few, many)]
    np.testing.assert_allclose(*logs, rtol=1e-10)
    np.testing.assert_allclose([few.weights.sum(), many.weights.sum()], 1.0, rtol=1e-12)


def test_of_a_funnel_it_keeps_a_normal_before_the_mode():
    """Neal's funnel has its mode at v = -40, thirteen standard deviations from its mean."""
    found = run(Double(densities.funnel, 10), PATHFINDER)
    assert (np.array([normal.mean[0] for normal in found.approximation.normals]) > -10.0).all()
    assert any(path["mode_log_density"] > 80.0 for path in found.evidence["paths"])
    assert max(path["elbo"] for path in found.evidence["paths"]) > 5.0  # of log evidence 10.3


def test_a_density_without_mode_gets_a_normal_but_no_convergence():
    found = run(Double(densities.no_mode, 9), PATHFINDER)
    assert found.status == "diverged"
    assert "'z0'" in found.note
    assert np.isfinite([normal.elbo for normal in found.approximation.normals]).all()


@pytest.mark.parametrize("name", densities.IMPROPER)
def test_improper_posteriors_are_no_convergence_and_named(name):
    dim, density, latent = densities.IMPROPER[name]
    found = run(Double(density, dim), PATHFINDER)
    assert found.status == "diverged"
    assert not found.arrival.arrived
    assert f"'{latent}'" in found.note


def test_regions_without_density_are_passed_by():
    wall = lambda x: torch.where((x < 1.5).all(1), -0.5 * (x + 1.0).square().sum(1), torch.nan)  # noqa: E731
    found = run(Double(wall, 2), PATHFINDER)
    assert found.status == "converged"
    np.testing.assert_allclose(as_normal(found.approximation).mean, -1.0, atol=1e-6)


def test_a_density_that_is_finite_nowhere_is_said():
    found = run(Double(lambda x: x.sum(1) * torch.nan, 2), PATHFINDER)
    assert found.status == "diverged"
    assert "not finite" in found.note
    assert len(found.approximation.weights) == 8


def test_it_begins_around_a_normal_that_is_given():
    begin = Normal(densities.MODES[0], 0.5 * np.eye(2), -np.inf, 0)
    found = run(Double(densities.two_modes, 2), PATHFINDER, begin=begin)
    assert all(normal.mean[0] < 0.0 for normal in found.approximation.normals)


def test_beyond_exact_hessians_paths_find_the_mode_alone():
    found = run(Double(lambda x: -torch.log(torch.cosh(x - 1.0)).sum(1), 400), PATHFINDER, num_paths=2)
    assert found.status == "converged"
    path = max(path["mode_log_density"] for path in found.evidence["paths"])
    assert -1e-6 < path <= 0.0


def test_beyond_exact_hessians_a_flat_latent_is_seen():
    found = run(Double(lambda x: -0.5 * x[:, 1:].square().sum(1), 400), PATHFINDER, num_paths=2)
    assert found.status == "diverged"
    assert "'z0'" in found.note


def test_diagonal_normals_are_the_best_independent_ones():
    target, mean, root = densities.normal(5, 100.0)
    found = run(target, PATHFINDER, covariance="diagonal", num_components=1)
    (normal,) = found.approximation.normals
    precision = np.linalg.inv(root @ root.T)
    assert normal.root.shape == (5,)
    np.testing.assert_allclose(normal.mean, mean, atol=1e-6)
    np.testing.assert_allclose(normal.root, np.diag(precision) ** -0.5, rtol=1e-6)


def test_the_seed_alone_decides():
    target = Double(densities.banana, 2)
    first, again, other = (run(target, PATHFINDER, seed=seed).approximation for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.weights, again.weights)
    assert not np.array_equal(first.weights, other.weights)


def test_limits_are_obeyed():
    target = Double(densities.normal(100, 1e6)[0].density, 100)
    assert len(run(target, PATHFINDER, max_steps=3).losses) == 3
    assert run(target, PATHFINDER, seconds=-1.0).status == "out_of_time"


@pytest.mark.parametrize(
    ("options", "text"),
    [({"num_paths": 0}, "num_paths"), ({"num_draws": 10}, "num_draws"), ({"num_elbo_draws": 1}, "num_elbo_draws")],
)
def test_mistakes_are_named(options, text):
    with pytest.raises(OptionError, match=text):
        run(Double(densities.banana, 2), PATHFINDER, **options)


def test_many_dense_covariances_are_refused():
    with pytest.raises(OptionError, match="'diagonal'"):
        run(Double(lambda x: -x.square().sum(1), 1_001), PATHFINDER)


def test_a_pyro_model_s_posterior_is_exact():
    fit = ppl.fit(closed_forms.regression, closed_forms.DATA, guide="pathfinder", seed=1)
    assert fit.status == "converged"
    np.testing.assert_allclose(fit.guide.locs.detach(), np.tile(closed_forms.MEAN, (8, 1)), rtol=1e-6)
    roots = (fit.guide.scales[..., None] * fit.guide.scale_trils).detach()
    for root in roots:
        np.testing.assert_allclose(root @ root.mT, closed_forms.COVARIANCE, rtol=1e-6)
