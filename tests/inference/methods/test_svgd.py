import numpy as np
import pytest
import torch

from ppl_models.errors import OptionError
from ppl_models.inference.methods import METHODS
from ppl_models.inference.methods.stein import LINEAR, stein_direction
from tests.inference.methods.doubles import Double, normal_density, run
from tests.inference.methods.test_dadvi import gaussian

SVGD = METHODS["svgd"]


def test_direction_is_the_mean_of_kernel_and_its_gradient():
    rng = np.random.default_rng(0)
    points, slopes = rng.standard_normal((2, 7, 3))
    given = torch.tensor(points, requires_grad=True)
    squared = (given[:, None].detach() - given.detach()).square().sum(-1)
    above = torch.triu_indices(7, 7, 1)
    width = np.median(squared[above[0], above[1]].numpy()) / np.log(7)
    wanted = np.zeros_like(points)
    for to in range(7):
        for of in range(7):
            x, y = torch.tensor(points[of], requires_grad=True), torch.tensor(points[to])
            kernel = (-(x - y).square().sum() / width).exp() + LINEAR * (1.0 + x @ y)
            (slope,) = torch.autograd.grad(kernel, x)
            wanted[to] += (float(kernel.detach()) * slopes[of] + slope.numpy()) / 7
    np.testing.assert_allclose(stein_direction(points, slopes), wanted, rtol=1e-10)


@pytest.mark.parametrize("num_dims", [1, 2, 20])
def test_on_a_normal_moments_are_nearer_than_those_of_as_many_draws(num_dims):
    mean, root = gaussian(num_dims)
    found = run(Double(normal_density(mean, root), num_dims), SVGD)
    assert found.status == "converged"
    assert found.arrival.arrived
    white = np.linalg.solve(root, (found.approximation.points - mean).T)
    count = white.shape[1]
    # a third of the standard errors of independent draws
    assert np.abs(white.mean(axis=1)).max() < 1.0 / np.sqrt(count) / 3.0
    assert np.abs(np.log(white.std(axis=1))).max() < 1.0 / np.sqrt(2.0 * count) / 3.0


def test_without_the_linear_kernel_the_spread_of_many_latents_collapses(monkeypatch):
    monkeypatch.setattr("ppl_models.inference.methods.stein.LINEAR", 0.0)
    found = run(Double(normal_density(np.zeros(20), np.eye(20)), 20), SVGD)
    assert found.approximation.points.std(axis=0).max() < 0.8


@pytest.mark.statistical
def test_two_modes_keep_their_places_and_shares():
    weights, centers, scales = torch.tensor([[0.3, 0.7], [-2.0, 2.0], [0.5, 0.7]], dtype=torch.float64)

    def density(points):
        parts = torch.distributions.Normal(centers, scales, validate_args=False).log_prob(points) + weights.log()
        return parts.logsumexp(-1)

    found = run(Double(density, 1), SVGD)
    points = found.approximation.points[:, 0]
    left = points < 0.0
    # each side's share, mean and sd within three standard errors of as many independent draws
    assert abs(left.mean() - 0.3) < 3.0 * np.sqrt(0.21 / len(points))
    for side, center, scale in ((left, -2.0, 0.5), (~left, 2.0, 0.7)):
        assert abs(points[side].mean() - center) < 3.0 * scale / np.sqrt(side.sum())
        assert abs(np.log(points[side].std() / scale)) < 3.0 / np.sqrt(2.0 * side.sum())


@pytest.mark.parametrize("density", [lambda x: 0.0 * x.sum(-1), lambda x: -0.5 * x[:, 0].square() + x[:, 1]])
def test_densities_that_do_not_fall_off_are_no_convergence(density):
    found = run(Double(density, 2), SVGD)
    assert found.status == "diverged"
    assert "'z1'" in found.note


def test_no_density_anywhere_is_said():
    found = run(Double(lambda x: torch.nan * x.sum(-1), 2), SVGD)
    assert found.status == "diverged"
    assert "not finite" in found.note


@pytest.mark.parametrize(("given", "status"), [({"seconds": -1.0}, "out_of_time"), ({"max_steps": 1}, "max_steps")])
def test_budgets_are_kept(given, status):
    mean, root = gaussian(2)
    assert run(Double(normal_density(mean, root), 2), SVGD, **given).status == status


def test_as_many_particles_as_were_asked_for_the_same_for_the_same_seed():
    target = Double(normal_density(*gaussian(2)), 2)
    one, two = (run(target, SVGD, num_particles=30, seed=3).approximation.points for _ in range(2))
    assert one.shape == (30, 2)
    np.testing.assert_array_equal(one, two)
    assert SVGD.guide_options({"num_particles": 30}) == {"num_particles": 30}


@pytest.mark.parametrize("count", [3, 10.0])
def test_too_few_particles_are_refused(count):
    with pytest.raises(OptionError, match="method_options: num_particles"):
        run(Double(lambda x: -x.square().sum(-1), 1), SVGD, num_particles=count)
