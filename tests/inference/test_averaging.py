"""Stages of falling step size: when they end, what their averages are worth, and what is never called converged."""

import math
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import constraints

import ppl_models as ppl
from ppl_models.inference.averaging import COOL_DOWN_SHARE, FINAL_FACTOR, FIRST_CHECK, SMALLEST_FACTOR
from ppl_models.inference.course import TOLERANCE
from ppl_models.inference.step_search import LOWER, TRIAL_STEPS

from .fake_steps import Maker, Quadratic, go

MODE = np.array([3.0, -2.0, 0.5])
CURVATURE = np.array([1.0, 4.0, 0.25])
NOISY = Quadratic(MODE, CURVATURE, slope_sd=np.array([1.0, 2.0, 0.5]), level_sd=1.0)
"""As of a normal target's location, where the noise of the slope has about the curvature's root."""
SEEDS = range(12)


@pytest.mark.statistical
@pytest.mark.parametrize("search", [True, False])
def test_noisy_quadratic_converges_to_within_its_tolerance(search):
    """The last stages' gap and gain are below the tolerance with their errors, so that little more than it is left.

    Two of them, one for what averaging leaves and one for what the next step size would gain, may be left on top; and
    the mean of twelve fits is below one.
    """
    gaps = []
    for seed in SEEDS:
        trajectory, x = go(Maker(NOISY, np.zeros(3), seed=seed), seed=seed, search=search, first_factor=0.1)
        assert trajectory.status == "converged"
        assert trajectory.note == ""
        gaps.append(NOISY.gap(x))
    assert max(gaps) < 3.0 * TOLERANCE
    assert np.mean(gaps) < TOLERANCE


def test_the_average_is_much_better_than_the_iterates():
    """At 0.1 of unit scale the iterates lie 0.05 nats or so above the optimum, and the means of 400 not."""
    averages, iterates = [], []
    for seed in SEEDS:
        maker = Maker(NOISY, np.zeros(3), seed=seed)
        seen = []
        maker.at_step = lambda count, maker=maker, seen=seen: seen.append(NOISY.gap(maker.x))
        trajectory, x = go(maker, seed=seed, search=False, first_factor=0.1)
        first = trajectory.stages[0]
        iterates.append(np.mean(seen[first.stationary : first.last]))
        averages.append(NOISY.gap(x))
    assert np.mean(averages) < 0.2 * np.mean(iterates)


@pytest.mark.parametrize("first_factor", [3.0, 30.0])
def test_a_step_size_too_large_at_first_is_lowered(first_factor):
    trajectory, x = go(Maker(NOISY, np.zeros(3)), search=False, first_factor=first_factor)
    assert trajectory.status == "converged"
    sizes = [stage.step_size for stage in trajectory.stages]
    assert sizes == pytest.approx([first_factor * LOWER**number for number in range(len(sizes))])
    assert len(sizes) > 2
    assert NOISY.gap(x) < 3.0 * TOLERANCE


def test_a_step_size_too_small_at_first_is_raised_by_the_search():
    """Far away, where 60 steps of the largest do not show that it is too small for what is left."""
    target = Quadratic(np.full(3, 400.0), np.ones(3), slope_sd=1.0)
    maker = Maker(target, np.zeros(3))
    trajectory, x = go(maker)
    assert trajectory.status == "converged"
    assert len(trajectory.losses) < 10_000
    assert target.gap(x) < 3.0 * TOLERANCE


def test_stages_are_one_behind_the_other():
    maker = Maker(NOISY, np.zeros(3))
    trajectory, _ = go(maker)
    stages = trajectory.stages
    assert len(stages) >= 2
    assert stages[0].first == TRIAL_STEPS
    assert stages[-1].last == len(trajectory.losses)
    for before, after in pairwise(stages):
        assert after.first == before.last
        assert after.step_size < before.step_size
    for stage in stages:
        assert stage.first <= stage.stationary < stage.last
        assert stage.last - stage.first >= FIRST_CHECK
        assert stage.gap < TOLERANCE
        used = maker.factors[trajectory.trial_steps + stage.first : trajectory.trial_steps + stage.last]
        assert used == pytest.approx([stage.step_size] * len(used))
    assert abs(stages[-1].gain) + 2.0 * stages[-1].error < TOLERANCE
    assert trajectory.constant == (stages[-1].stationary, stages[-1].last)


def test_a_mean_that_is_worse_is_not_kept():
    """A step size that only makes noise cannot spoil a start at the optimum."""
    trajectory, x = go(Maker(NOISY, MODE), search=False, first_factor=3.0)
    assert trajectory.status == "converged"
    assert NOISY.gap(x) < TOLERANCE


class Valley:
    """A quadratic, and one more parameter whose loss falls for ever at a slope, under noise that hides the way."""

    def __init__(self, slope, noise):
        self.slope_of, self.noise = slope, noise

    def losses(self, x, noise):
        return 0.5 * x[0] ** 2 - self.slope_of * x[1] + self.noise * (noise[:, 0] * x[0])

    def slope(self, x, noise):
        return np.array([x[0] + self.noise * noise[0], -self.slope_of])


@pytest.mark.parametrize("slope", [1e-6, 1e-3, 1.0])
def test_a_parameter_that_drifts_for_ever_is_never_stationary(slope):
    """However little its loss falls at this pace: what it goes for may be far away."""
    trajectory, _ = go(Maker(Valley(slope, 0.5), np.zeros(2)), max_steps=5_000, search=False, first_factor=0.03)
    assert trajectory.status == "max_steps"
    assert all(math.isnan(stage.gap) for stage in trajectory.stages)


@pytest.mark.parametrize("scale", [1e3, 1e4, 1e5])
@pytest.mark.parametrize("slope_sd", [0.0, 0.1, 1.0])
def test_natural_scales_far_from_one_are_reached_or_owned_up_to(scale, slope_sd):
    """Three sds away, 4.5 nats: with a search for step size and units it arrives; without one it says that it has not.

    The noise of the slope is that share of the slope one sd away from the optimum.
    """
    target = Quadratic(np.array([3.0 * scale, 0.0]), np.array([scale**-2.0, 1.0]), np.array([slope_sd / scale, 0.3]))
    trajectory, x = go(Maker(target, np.zeros(2)), max_steps=20_000)
    assert trajectory.status == "converged"
    assert target.gap(x) < 3.0 * TOLERANCE
    trajectory, x = go(Maker(target, np.zeros(2)), max_steps=6_000, search=False, first_factor=0.03)
    assert target.gap(x) > 1.0
    assert trajectory.status == "max_steps"


def test_a_loss_that_falls_at_every_step_size_is_not_converged_at_the_smallest():
    """A loss that falls with the number of steps alone, as nothing real does: no smaller step size ends it."""

    class Ageing(Quadratic):
        def losses(self, x, noise):
            return super().losses(x, noise) - 1e-3 * maker.count

    maker = Maker(Ageing(MODE, CURVATURE, 0.3), MODE)
    maker.target.mode = MODE
    trajectory, _ = go(maker, max_steps=30_000, search=False, first_factor=100.0 * SMALLEST_FACTOR)
    assert trajectory.status == "max_steps"
    assert len(trajectory.losses) == 30_000


def test_gains_that_cannot_be_known_end_at_the_smallest_step_size():
    """Losses of infinite variance: what a stage gains is noise, and no reason to use up all steps."""

    class Heavy(Quadratic):
        def losses(self, x, noise):
            wild = 3.0 * np.sign(noise[:, -1]) * np.exp(2.0 * np.abs(noise[:, -1]))
            return super().losses(x, noise) + wild * (x - self.mode).sum()

    trajectory, x = go(
        Maker(Heavy(MODE, CURVATURE, 0.3), MODE), max_steps=50_000, search=False, first_factor=5.0 * SMALLEST_FACTOR
    )
    assert trajectory.status in ("converged", "max_steps")
    assert np.isfinite(x).all()


def test_the_end_of_the_steps_is_a_cool_down_to_an_average():
    distant = Quadratic(np.full(3, 1e5), np.ones(3), 1.0)
    maker = Maker(distant, np.zeros(3))
    trajectory, x = go(maker, max_steps=2_000, search=False, first_factor=0.1)
    assert trajectory.status == "max_steps"
    factors = np.asarray(maker.factors) / 0.1
    cooling = int(COOL_DOWN_SHARE * 2_000)
    assert np.count_nonzero(factors == 1.0) == 2_000 - cooling + 1
    np.testing.assert_allclose(factors[-cooling:], FINAL_FACTOR ** (np.arange(cooling) / cooling))
    travelled = 0.1 * factors.sum()  # Adam's first steps, before its average of the slope's square is full, are larger
    assert 0.9 * travelled < x.min() < x.max() < 1.1 * travelled


def test_weights_of_networks_need_not_come_to_rest():
    """Their names tell them: 'weight', 'bias', or what `pyro.module` made."""
    from ppl_models.inference import averaging

    names = {
        "encoder$$$layer.x": True,
        "net.weight": True,
        "net.bias": True,
        "AutoNormal.locs.bias_x": False,
        "m": False,
    }
    assert {name: averaging._is_networks(name) for name in names} == names


def test_only_what_is_watched_must_come_to_rest():
    """A flow's coordinates that no one identifies may drift along a valley without slope."""

    class Flat(Valley):
        def slope(self, x, noise):
            return np.array([x[0] + self.noise * noise[0], -1e-3])

    for watched, status in (([True, False], "converged"), ([True, True], "max_steps")):
        coordinates = SimpleNamespace(watched=torch.tensor(watched))
        maker = Maker(Flat(0.0, 0.5), np.zeros(2))
        assert go(maker, max_steps=4_000, search=False, first_factor=0.03, coordinates=coordinates)[0].status == status


@pytest.mark.parametrize("location", [3e4, pytest.param(-1e4, marks=pytest.mark.exhaustive)])
def test_hand_written_guide_of_scale_ten_thousand(location):
    """The issue's planted ramp, on real steps: mean and sd are reached, with no option set."""

    def model():
        pyro.sample("z", dist.Normal(location, 1e4))

    def guide():
        scale = pyro.param("scale", torch.tensor(1.0), constraint=constraints.positive)
        pyro.sample("z", dist.Normal(pyro.param("location", torch.tensor(0.0)), scale))

    fit = ppl.fit(model, {}, guide=guide, backend="eager", seed=0)
    assert fit.status == "converged"
    mean, sd = float(fit.parameters["location"]), float(fit.parameters["scale"])
    ratio = sd / 1e4
    assert 0.5 * (((mean - location) / 1e4) ** 2 + ratio**2 - 1.0) - math.log(ratio) < 3.0 * TOLERANCE
    fixed = ppl.fit(model, {}, guide=guide, backend="eager", step_size=0.1, max_steps=300, seed=0)
    assert fixed.status == "max_steps"
    assert fixed.steps == 300
