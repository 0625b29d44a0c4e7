"""Units of parameters from the curvature along them: exact on quadratics of any scale, bounded where there is none."""

import math

import numpy as np
import pytest
import torch

from ppl_models.inference.preconditioning.curvature import LARGEST, ONE_BY_ONE, SLOPE_SHARE, SMALLEST, units_of


def quadratic(curvature, mode, noise=0.0):
    """The gradient of 0.5 (x - mode)ᵀ curvature (x - mode), with a random slope of its own for every seed."""

    def gradient(flat, seed):
        generator = torch.Generator().manual_seed(seed)
        slope = curvature @ (flat - mode)
        return (
            slope + noise * torch.randn(len(flat), generator=generator, dtype=flat.dtype) * curvature.diagonal().sqrt()
        )

    return gradient


def diagonal(scales):
    return torch.diag(torch.as_tensor(scales, dtype=torch.float64) ** -2)


@pytest.mark.parametrize("away", [0.0, 1.0, -3.0])
@pytest.mark.parametrize("count", [1, 7, ONE_BY_ONE, ONE_BY_ONE + 1, 200])
def test_scales_of_a_quadratic_are_recovered(count, away):
    """From 1e-6 to 1e6, at the optimum and three sds away from it, where the slope's share is still less."""
    scales = 10.0 ** np.linspace(-6.0, 6.0, count) if count > 1 else np.array([1e4])
    start = torch.as_tensor(away * scales)
    found = units_of(quadratic(diagonal(scales), torch.zeros(count).double()), start, seed=0)
    # finite differences of 1e-3 units lose six digits of sixteen; random directions couple nothing here
    np.testing.assert_allclose(found.numpy(), scales, rtol=1e-6)


def test_common_noise_does_not_matter_but_for_the_slope_it_makes():
    scales = np.array([1e-4, 1.0, 1e3])
    found = units_of(quadratic(diagonal(scales), torch.zeros(3).double(), noise=1.0), torch.zeros(3).double(), seed=1)
    np.testing.assert_allclose(found.numpy(), scales, rtol=1e-6)


@pytest.mark.parametrize("count", [5, 200])
def test_correlated_parameters_get_the_scale_of_each_alone(count):
    """One over the root of the diagonal; with random directions to within the estimator's own error.

    12 directions leave each diagonal element an error of the root of its row's other squares over 12.
    """
    rng = np.random.default_rng(0)
    root = rng.normal(size=(count, 4 * count)) / np.sqrt(4 * count)
    scales = 10.0 ** rng.uniform(-3.0, 3.0, count)
    unit = root @ root.T
    curvature = torch.as_tensor(unit / np.outer(scales, scales))
    found = units_of(quadratic(curvature, torch.zeros(count).double()), torch.zeros(count).double(), seed=2).numpy()
    wanted = np.diag(curvature.numpy()) ** -0.5
    if count <= ONE_BY_ONE:
        np.testing.assert_allclose(found, wanted, rtol=1e-6)
    else:
        others = np.square(unit).sum(axis=1) - np.diag(unit) ** 2
        error = 0.5 * np.sqrt(others / 12.0) / np.diag(unit)
        # the units that the directions are taken in are as far from right, and add as much again
        assert np.abs(np.log(found / wanted)).max() < 6.0 * error.max()


@pytest.mark.parametrize("count", [2, 200])
def test_nearly_linear_loss_gives_a_unit_that_is_worth_ten_nats(count):
    """A slope g without curvature: 1 / (0.1 g), along which the loss changes by ten."""
    slopes = torch.as_tensor(10.0 ** np.linspace(-3.0, 5.0, count))
    found = units_of(lambda flat, seed: slopes.clone(), torch.zeros(count).double(), seed=0)
    np.testing.assert_allclose(found.numpy() * slopes.numpy(), SLOPE_SHARE**-0.5, rtol=1e-6)


def test_the_logarithm_of_a_collapsed_scale_is_bounded_by_the_slope():
    """-log s of a normal guide far too narrow: slope -1, curvature 2 s² next to nothing."""
    narrow = torch.tensor([-30.0], dtype=torch.float64)
    (found,) = units_of(lambda flat, seed: -1.0 + (2.0 * flat).exp(), narrow, seed=0).tolist()
    assert found == pytest.approx(10.0, rel=1e-6)


@pytest.mark.parametrize("count", [3, 100])
def test_no_loss_at_all_leaves_units_of_one(count):
    found = units_of(lambda flat, seed: torch.zeros_like(flat), torch.zeros(count).double(), seed=0)
    assert found.tolist() == [1.0] * count


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_leaves_units_of_one(bad):
    def gradient(flat, seed):
        found = flat.clone()
        found[1] = bad
        return found

    found = units_of(gradient, torch.ones(3).double(), seed=0)
    assert found[1] == 1.0
    assert torch.isfinite(found).all()


def test_units_are_bounded():
    start = torch.ones(2, dtype=torch.float64)
    scales = torch.tensor([1e-12, 1e12], dtype=torch.float64)
    found = units_of(lambda flat, seed: (flat - start) * scales**-2, start, seed=0)
    assert found[0] == pytest.approx(SMALLEST)
    assert found[1] == pytest.approx(LARGEST)


def test_saddles_count_by_the_size_of_their_curvature():
    signs = torch.tensor([1.0, -1.0], dtype=torch.float64)
    found = units_of(lambda flat, seed: signs * flat * 4.0, torch.zeros(2).double(), seed=0)
    np.testing.assert_allclose(found.numpy(), 0.5, rtol=1e-9)


def test_same_seed_same_units_and_dtype():
    curvature = diagonal(10.0 ** np.linspace(-2.0, 2.0, 40)) + 0.01
    gradient = quadratic(curvature, torch.zeros(40).double(), noise=0.1)
    one, other = (units_of(gradient, torch.zeros(40).double(), seed=5) for _ in range(2))
    assert torch.equal(one, other)
    single = units_of(lambda flat, seed: gradient(flat.double(), seed).float(), torch.zeros(40), seed=5)
    assert single.dtype == torch.float32
