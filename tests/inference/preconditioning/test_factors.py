"""A covariance as a diagonal and a matrix of low rank."""

import numpy as np
import pytest

from ppl_models.inference.preconditioning.factors import SMALLEST_SHARE, factor_analysis


def rebuilt(unique, loadings):
    return np.diag(unique**2) + loadings @ loadings.T


def relative(covariance):
    scale = np.sqrt(covariance.diagonal())
    return covariance / np.outer(scale, scale)


@pytest.mark.parametrize(("dim", "rank"), [(5, 1), (10, 1), (12, 3), (40, 6)])
def test_a_covariance_of_that_form_is_found(dim, rank):
    rng = np.random.default_rng(dim)
    scale = 10.0 ** np.linspace(-8.0, 8.0, dim)
    wanted = rng.normal(size=(dim, rank)), rng.uniform(0.5, 2.0, dim)
    covariance = rebuilt(wanted[1], wanted[0]) * np.outer(scale, scale)
    unique, loadings = factor_analysis(covariance, rank)
    assert loadings.shape == (dim, rank)
    assert (unique > 0.0).all()
    np.testing.assert_allclose(
        rebuilt(unique, loadings) / np.outer(scale, scale), covariance / np.outer(scale, scale), rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("rank", [4, 7])
def test_full_rank_is_exact(rank):
    rng = np.random.default_rng(3)
    root = rng.normal(size=(4, 4))
    covariance = root @ root.T
    unique, loadings = factor_analysis(covariance, rank)
    assert loadings.shape == (4, rank)
    np.testing.assert_allclose(relative(rebuilt(unique, loadings)), relative(covariance), atol=3.0 * SMALLEST_SHARE)
    np.testing.assert_allclose(rebuilt(unique, loadings).diagonal(), covariance.diagonal(), rtol=3.0 * SMALLEST_SHARE)


def test_the_variances_are_kept_whatever_the_rank():
    rng = np.random.default_rng(4)
    root = rng.normal(size=(9, 9))
    covariance = root @ root.T
    for rank in (1, 2, 5, 9):
        unique, loadings = factor_analysis(covariance, rank)
        found = rebuilt(unique, loadings).diagonal() / covariance.diagonal()
        assert (found > 0.99).all()
        assert (found < 1.5).all()
        assert np.linalg.eigvalsh(relative(rebuilt(unique, loadings)))[0] > 0.0


def test_more_factors_leave_less():
    rng = np.random.default_rng(6)
    root = rng.normal(size=(12, 12))
    covariance = relative(root @ root.T)
    left = [np.linalg.norm(rebuilt(*factor_analysis(covariance, rank)) - covariance) for rank in (1, 3, 6, 12)]
    assert left == sorted(left, reverse=True)


def test_independent_variables_have_no_loadings():
    unique, loadings = factor_analysis(np.diag([1e-16, 1.0, 1e16]), 2)
    np.testing.assert_allclose(unique, [1e-8, 1.0, 1e8], rtol=1e-6)
    np.testing.assert_allclose(loadings / unique[:, None], 0.0, atol=1e-6)


def test_one_variable():
    unique, loadings = factor_analysis(np.array([[4.0]]), 1)
    np.testing.assert_allclose(rebuilt(unique, loadings), [[4.0]])
