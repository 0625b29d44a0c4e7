import time

import numpy as np
import pytest

from ppl_models.inference.methods.trust_region import minimise, steihaug


class Function:
    """Loss, gradient and Hessian as three functions."""

    def __init__(self, loss, gradient, hessian, bound=np.inf):
        self.loss, self.gradient, self.hessian, self.bound = loss, gradient, hessian, bound

    def __call__(self, point):
        return self.loss(point), self.gradient(point)

    def curvature(self, point):
        return lambda vector: self.hessian(point) @ vector

    def runs_away(self, point):
        return np.abs(point) > self.bound


def rosenbrock():
    return Function(
        lambda x: (1.0 - x[0]) ** 2 + 100.0 * (x[1] - x[0] ** 2) ** 2,
        lambda x: np.array(
            [-2.0 * (1.0 - x[0]) - 400.0 * x[0] * (x[1] - x[0] ** 2), 200.0 * (x[1] - x[0] ** 2)]
        ),
        lambda x: np.array(
            [[2.0 - 400.0 * (x[1] - 3.0 * x[0] ** 2), -400.0 * x[0]], [-400.0 * x[0], 200.0]]
        ),
    )  # fmt: skip


def found(function, start, *, max_steps=100, seconds=60.0):
    return minimise(
        function,
        np.asarray(start, dtype=float),
        max_steps=max_steps,
        deadline=time.perf_counter() + seconds,
        update=lambda done, text: None,
    )


def test_a_valley_that_bends_is_followed_to_its_end():
    end = found(rosenbrock(), [-1.2, 1.0])
    assert end.status == "converged"
    np.testing.assert_allclose(end.point, 1.0, atol=1e-8)
    assert all(b <= a for a, b in zip(end.losses, end.losses[1:], strict=False))
    assert end.decrement <= end.limit


def test_a_quadratic_takes_one_step_and_one_to_be_sure():
    matrix = np.diag([1.0, 1e3])
    quadratic = Function(lambda x: 0.5 * x @ matrix @ x, lambda x: matrix @ x, lambda x: matrix)
    end = found(quadratic, [0.5, 0.5])
    assert end.status == "converged"
    assert len(end.losses) <= 4
    np.testing.assert_allclose(end.point, 0.0, atol=1e-9)


def test_from_a_saddle_the_way_leads_down():
    saddle = Function(
        lambda x: 0.25 * x[0] ** 4 - 0.5 * x[0] ** 2 + x[1] ** 2,
        lambda x: np.array([x[0] ** 3 - x[0], 2.0 * x[1]]),
        lambda x: np.diag([3.0 * x[0] ** 2 - 1.0, 2.0]),
    )
    np.testing.assert_allclose(np.abs(found(saddle, [1e-3, 1.0]).point), [1.0, 0.0], atol=1e-8)


def test_places_without_a_loss_are_kept_out_of():
    barrier = Function(
        lambda x: float(x[0] - np.log(x[0])) if x[0] > 0.0 else np.nan,
        lambda x: 1.0 - 1.0 / x,
        lambda x: np.diag(x**-2.0),
    )
    np.testing.assert_allclose(found(barrier, [30.0]).point, 1.0, atol=1e-7)


def test_a_loss_without_bound_is_no_convergence():
    slope = Function(lambda x: -x[0], lambda x: np.array([-1.0]), lambda x: np.zeros((1, 1)), bound=1e8)
    assert found(slope, [0.0]).status == "diverged"


@pytest.mark.parametrize(("given", "status"), [({"max_steps": 3}, "max_steps"), ({"seconds": -1.0}, "out_of_time")])
def test_budgets_are_kept(given, status):
    end = found(rosenbrock(), [-1.2, 1.0], **given)
    assert end.status == status
    assert len(end.losses) <= 4


def test_steps_stay_in_the_region():
    hessian = np.diag([1.0, 4.0])
    gradient = np.array([3.0, 4.0])
    step, promised, inside = steihaug(lambda v: hessian @ v, gradient, 0.5)
    assert not inside
    np.testing.assert_allclose(np.linalg.norm(step), 0.5, rtol=1e-12)
    np.testing.assert_allclose(promised, -(gradient @ step + 0.5 * step @ hessian @ step), rtol=1e-12)
