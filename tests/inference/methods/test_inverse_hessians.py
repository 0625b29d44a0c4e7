"""Inverse Hessians in compact form, against the recursion that they stand for."""

import numpy as np
import pytest

from ppl_models.inference.methods.inverse_hessians import History

PATHS, DIM, SIZE = 2, 5, 3


def recursion(diagonal, pairs):
    found = np.diag(diagonal)
    for step, bend in pairs:
        rho = 1.0 / (step @ bend)
        left = np.eye(len(diagonal)) - rho * np.outer(step, bend)
        found = left @ found @ left.T + rho * np.outer(step, step)
    return found


@pytest.fixture(params=[0, 1, 2, 5])
def remembered(request):
    rng = np.random.default_rng(0)
    curvature = np.cov(rng.standard_normal((DIM, 50)))
    history, pairs = History(1.0 + rng.random((PATHS, DIM)), SIZE), []
    for _ in range(request.param):
        step = rng.standard_normal((PATHS, DIM))
        history.add(step, step @ curvature, np.ones(PATHS, dtype=bool))
        pairs.append((step, step @ curvature))
    wanted = [recursion(history.diagonal[p], [(s[p], y[p]) for s, y in pairs[-SIZE:]]) for p in range(PATHS)]
    return history.factored(), wanted


def test_they_are_what_the_recursion_gives(remembered):
    found, wanted = remembered
    vectors = np.random.default_rng(1).standard_normal((PATHS, DIM))
    for path, matrix in enumerate(wanted):
        np.testing.assert_allclose(found.root(path) @ found.root(path).T, matrix, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(found.times(vectors)[path], matrix @ vectors[path], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(found.log_scale()[path], 0.5 * np.linalg.slogdet(matrix)[1], rtol=1e-9)
        scale = np.diag(np.linalg.inv(matrix)) ** -0.5
        np.testing.assert_allclose(found.conditional_scale()[path], scale, rtol=1e-9)


def test_draws_have_them_for_covariance(remembered):
    found, wanted = remembered
    draws = found.spread(np.broadcast_to(np.eye(DIM), (PATHS, DIM, DIM)))
    for path, matrix in enumerate(wanted):
        np.testing.assert_allclose(draws[path].T @ draws[path], matrix, rtol=1e-9, atol=1e-12)


def test_the_diagonal_is_that_of_an_update_of_a_scaled_diagonal():
    """Gilbert and Lemaréchal: the BFGS update of the diagonal Hessian, first scaled to the newest curvature."""
    rng = np.random.default_rng(2)
    first, step = 1.0 + rng.random((1, DIM)), rng.standard_normal((1, DIM))
    bend = step * (0.1 + rng.random(DIM))
    history = History(first, SIZE)
    history.add(step, bend, np.ones(1, dtype=bool))
    s, y, scaled = step[0], bend[0], np.diag((bend[0] @ (first[0] * bend[0])) / (step[0] @ bend[0]) / first[0])
    updated = scaled + np.outer(y, y) / (y @ s) - np.outer(scaled @ s, scaled @ s) / (s @ scaled @ s)
    np.testing.assert_allclose(history.diagonal[0], 1.0 / np.diag(updated), rtol=1e-10)


def test_steps_against_the_curvature_tell_nothing():
    history = History(np.ones((1, DIM)), SIZE)
    step = np.ones((1, DIM))
    history.add(step, -step, np.ones(1, dtype=bool))
    history.add(step, 2.0 * step, np.zeros(1, dtype=bool))
    np.testing.assert_array_equal(history.diagonal, 1.0)
    np.testing.assert_allclose(history.factored().root(0), np.eye(DIM), atol=1e-15)
