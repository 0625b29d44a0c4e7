"""The search for a step size: the largest that is stable, within its share of the steps."""

import math
from types import SimpleNamespace

import numpy as np
import pyro
import pytest
import torch

from ppl_models.inference.course import Course, Plan
from ppl_models.inference.step_search import (
    GAIN_SHARE,
    LARGEST_FACTOR,
    LOWER,
    MIN_TRIAL_STEPS,
    NETWORK_STEP_SIZES,
    STEP_SIZES,
    TRIAL_ALLOWANCE,
    TRIAL_SHARE,
    TRIAL_STEPS,
    search,
)
from ppl_models.program import isolated

from .fake_steps import Maker, Quadratic, steps_of

COORDINATES = SimpleNamespace(watched=torch.ones(3, dtype=torch.bool))
"""What stands for those of a preconditioned fit, which need no units."""


def look(maker, factors=STEP_SIZES, *, coordinates=COORDINATES, max_steps=100_000, afresh=True, **plan):
    """Search once; returns the factor found and the course behind it."""
    with isolated():
        pyro.param("x", torch.as_tensor(maker.x.copy()))
        course = Course(steps_of(maker, coordinates=coordinates), Plan(max_steps, **plan), lambda *_: None)
        return search(course, factors, TRIAL_STEPS, afresh=afresh), course


def away(distance, **noise):
    return Quadratic(np.full(3, float(distance)), np.ones(3), **noise)


class Edged(Quadratic):
    """A quadratic whose loss, or whose evaluation, is lost beyond an edge that only large steps reach."""

    edge = 2.5
    error = None

    def losses(self, x, noise):
        found = super().losses(x, noise)
        if np.abs(x).max() < self.edge:
            return found
        if self.error is not None:
            raise self.error
        return found + math.nan


@pytest.mark.parametrize("distance", [0.1, 1.0, 3.0, 10.0])
def test_the_largest_that_gets_as_far_as_any_is_taken(distance):
    """Each step size alone gives what the search must find: 60 steps from zero, and the mean of the last 30."""
    target = away(distance, slope_sd=0.5)
    ends = {}
    for factor in STEP_SIZES:
        alone = Maker(target, np.zeros(3))
        alone.run(np.full(30, factor), [])
        alone.take_mean()
        alone.run(np.full(30, factor), [])
        ends[factor] = target.gap(alone.take_mean())
    found, course = look(Maker(target, np.zeros(3)))
    best = min(ends.values())
    allowed = max(TRIAL_ALLOWANCE * course.plan.tolerance, GAIN_SHARE * (target.gap(np.zeros(3)) - best))
    # trials differ by their noise: a tenth more than is allowed, and the largest of those that are clearly within
    assert ends[found] < best + 1.5 * allowed
    assert found >= max(factor for factor, end in ends.items() if end < best + 0.5 * allowed)


@pytest.mark.parametrize("error", [None, RuntimeError("no Cholesky factor"), ValueError("scale"), OverflowError()])
def test_a_step_size_that_explodes_is_never_taken(error):
    """From 0 towards 3, with an edge at 0.6 that 60 steps of 0.01 do not reach."""
    target = Edged(np.full(3, 3.0), np.ones(3))
    target.edge, target.error = 0.61, error
    maker = Maker(target, np.zeros(3))
    found, course = look(maker)
    assert found == 0.01
    assert np.isfinite(course.losses).all()
    assert np.abs(maker.x).max() < target.edge


def test_upwards_it_goes_on_while_that_helps():
    """Far away, where the largest of the first five still falls behind; in coordinates of unit scale it stays."""
    distant = away(1_000.0)
    assert look(Maker(distant, np.zeros(3)))[0] == max(STEP_SIZES)
    still = Maker(distant, np.zeros(3))
    still.gradient_at = lambda *_: torch.full((3,), math.nan, dtype=torch.float64)  # no units
    found, _ = look(still, coordinates=None)
    assert max(STEP_SIZES) < found <= LARGEST_FACTOR


def test_the_steps_of_the_trial_chosen_are_kept():
    target = away(10.0, level_sd=0.1)
    maker = Maker(target, np.zeros(3))
    found, course = look(maker)
    assert len(course.losses) == TRIAL_STEPS
    assert course.trial_steps == maker.count - TRIAL_STEPS
    first = maker.factors.index(found)
    alone = Maker(target, np.zeros(3))
    alone.rng.normal(size=(first, 4))
    losses = []
    alone.run(np.full(TRIAL_STEPS, found), losses)
    np.testing.assert_array_equal(course.losses, losses)
    assert target.gap(maker.x) < 0.1 * target.gap(np.zeros(3))


def test_going_on_from_where_it_is_keeps_the_size_of_the_gradients():
    maker = Maker(away(1.0), np.zeros(3))
    maker.run(np.full(50, 0.01), [])
    look(maker, (0.1, LOWER * 0.1), afresh=False)
    assert maker.age > 50


@pytest.mark.parametrize("coordinates", [None, COORDINATES], ids=["units", "coordinates"])
@pytest.mark.parametrize("factors", [STEP_SIZES, NETWORK_STEP_SIZES, (0.1, 0.03)], ids=len)
@pytest.mark.parametrize("max_steps", [10, 100, 499, 500, 501, 999, 1_000, 1_001, 1_400, 2_000, 3_333, 10_000])
def test_the_trials_take_no_more_than_their_share_of_the_steps(max_steps, factors, coordinates):
    maker = Maker(away(1_000.0), np.zeros(3))
    found, course = look(maker, factors, coordinates=coordinates, max_steps=max_steps, first_factor=0.02)
    assert maker.count <= TRIAL_SHARE * max_steps
    assert maker.count == course.trial_steps + len(course.losses)
    if TRIAL_SHARE * max_steps < MIN_TRIAL_STEPS * len(factors):
        assert maker.count == 0
        assert found == 0.02


@pytest.mark.parametrize("coordinates", [None, COORDINATES], ids=["units", "coordinates"])
def test_where_every_trial_fails_it_begins_again_with_the_smallest(coordinates):
    target = Edged(np.full(3, 3.0), np.ones(3))
    target.edge = 0.0
    maker = Maker(target, np.full(3, 0.5))
    found, course = look(maker, coordinates=coordinates)
    assert found == min(STEP_SIZES)
    assert course.losses == []
    np.testing.assert_array_equal(maker.x, np.full(3, 0.5))


def test_units_are_those_of_the_curvature_and_only_where_they_help():
    scales = np.array([1e-3, 1.0, 1e4])
    maker = Maker(Quadratic(5.0 * scales, scales**-2.0), np.zeros(3))
    found, _ = look(maker, coordinates=None)
    np.testing.assert_allclose(maker.units.numpy(), scales, rtol=1e-6)
    assert maker.target.gap(maker.x) < 0.2 * maker.target.gap(np.zeros(3))
    assert found >= 0.1
    wrong = Maker(Quadratic(np.full(3, 5.0), np.ones(3)), np.zeros(3))
    wrong.gradient_at = lambda flat, seed: 1e6 * flat  # a curvature that is not there: units of 1e-3
    look(wrong, coordinates=None)
    assert wrong.units.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("error", [RuntimeError("singular"), ValueError("scale"), ZeroDivisionError()])
def test_a_model_that_fails_near_the_start_gets_no_units(error):
    def fail(*_):
        raise error

    maker = Maker(away(1.0), np.zeros(3))
    maker.gradient_at = fail
    _, course = look(maker, coordinates=None)
    assert maker.units.tolist() == [1.0, 1.0, 1.0]
    assert len(course.losses) == TRIAL_STEPS


def test_what_is_not_averaged_gets_no_units():
    maker = Maker(away(0.1, slope_sd=1.0), np.zeros(3), averaged=False)
    maker.gradient_at = lambda *_: pytest.fail("no gradient is needed")
    _, course = look(maker, NETWORK_STEP_SIZES, coordinates=None)
    assert maker.units.tolist() == [1.0, 1.0, 1.0]
    assert len(course.losses) == TRIAL_STEPS
