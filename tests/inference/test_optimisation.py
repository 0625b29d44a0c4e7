"""The loop around SVI on made-up steps: statuses, budgets, interruptions, and which parameters are kept."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from ppl_models.errors import ModelError
from ppl_models.inference import course
from ppl_models.inference.course import DIMS_PER_TOLERANCE, TOLERANCE, Plan, Trajectory
from ppl_models.inference.plain_course import CHECK_EVERY, CHECK_SHARE, Schedule

from .fake_steps import Maker, Quadratic, at, go, throw

FAR = Quadratic(np.array([50.0, -3.0]), np.array([1.0, 4.0]), slope_sd=0.1, level_sd=0.3)
START = np.zeros(2)
KINDS = {"averaged": {"averaged": True}, "plain": {"averaged": False}}


class Ramp:
    """A loss that falls for ever, by `fall` a step, wherever the parameters go."""

    def __init__(self, fall, noise=0.0):
        self.fall, self.noise = fall, noise

    def losses(self, x, noise):
        return -self.fall * x.sum() + self.noise * noise[:, -1]

    def slope(self, x, noise):
        return -self.fall * np.ones_like(x)


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


@pytest.mark.parametrize("max_steps", [1, 2, 9, 10, 11, 49, 50, 51, 99, 200, 1_000, 2_345])
@pytest.mark.parametrize("search", [True, False])
def test_the_budget_of_steps_is_used_to_the_last_and_not_exceeded(max_steps, search, kind):
    maker = Maker(Ramp(1.0), np.zeros(3))
    trajectory, x = go(maker, max_steps=max_steps, search=search, first_factor=0.03, **kind)
    assert (trajectory.status, trajectory.note) == ("max_steps", "")
    assert len(trajectory.losses) == max_steps
    assert maker.count == max_steps + trajectory.trial_steps
    assert (x > 0.0).all()
    first, last = trajectory.constant
    assert 0 <= first <= last <= max_steps


def test_the_end_of_the_budget_is_spent_on_a_cool_down(kind):
    maker = Maker(FAR, START)
    trajectory, _ = go(maker, max_steps=1_000, search=False, first_factor=0.01, **kind)
    assert trajectory.status == "max_steps"
    factors = np.asarray(maker.factors) / 0.01
    assert np.all(factors[: trajectory.constant[1]] == 1.0)
    assert np.all(np.diff(factors) <= 0.0)
    assert factors[-1] < 0.04


def test_users_optimizer_makes_every_step():
    maker = Maker(FAR, START, averaged=False)
    maker.position = maker.move = lambda *_: pytest.fail("these steps cannot be moved")
    trajectory, _ = go(maker, max_steps=700, adjustable=False)
    assert len(trajectory.losses) == maker.count == 700
    assert trajectory.constant == (0, 700)
    assert trajectory.trial_steps == 0
    assert maker.factors == [1.0] * 700


class Clock:
    """Seconds that pass with the steps and evaluations made, and not otherwise."""

    def __init__(self, monkeypatch, seconds_per_step):
        self.now, self.each = 0.0, seconds_per_step
        monkeypatch.setattr(course, "time", SimpleNamespace(perf_counter=lambda: self.now))

    def tick(self, _):
        self.now += self.each


@pytest.mark.parametrize("search", [True, False])
@pytest.mark.parametrize("each", [0.01, 1.0, 30.0])
def test_the_budget_of_seconds_ends_a_fit_in_time_and_keeps_what_was_done(each, search, kind, monkeypatch):
    """However slow a step is, two of them are the most that comes after the end."""
    clock = Clock(monkeypatch, each)
    maker = Maker(Ramp(1.0), np.zeros(3), at_step=clock.tick)
    trajectory, x = go(maker, max_seconds=100.0, started=0.0, search=search, first_factor=0.03, **kind)
    assert trajectory.status == "out_of_time"
    assert 100.0 <= clock.now <= 100.0 + max(1.0, 2 * each)
    assert f"{clock.now:.0f} s" in trajectory.note
    assert f"{len(trajectory.losses):,} steps" in trajectory.note
    assert (x > 0.0).all()
    np.testing.assert_array_equal(x, maker.x)


def test_the_time_that_preparations_took_counts(monkeypatch):
    clock = Clock(monkeypatch, 1.0)
    clock.now = 95.0
    maker = Maker(Ramp(1.0), np.zeros(3), at_step=clock.tick)
    trajectory, _ = go(maker, max_seconds=100.0, started=0.0, search=False)
    assert trajectory.status == "out_of_time"
    assert maker.count < 10


def test_a_slow_ramp_is_never_called_converged(kind):
    for fall in (1e-3, 3e-2):
        maker = Maker(Ramp(fall, noise=0.05), np.zeros(1))
        trajectory, _ = go(maker, max_steps=6_000, search=False, first_factor=0.3, **kind)
        assert trajectory.status == "max_steps", fall


@pytest.mark.parametrize("when", [5, 60, 200, 299, 300, 310, 777, 1_000])
def test_interruption_keeps_the_better_of_where_it_was_and_where_it_began(when, kind):
    """During the trials of the search (300 steps and more), in a stage, or when it cools down."""
    maker = Maker(FAR, START, at_step=at(when, lambda: throw(KeyboardInterrupt)))
    trajectory, x = go(maker, max_steps=1_600, **kind)
    assert trajectory.status == "interrupted"
    assert f"{len(trajectory.losses)} steps" in trajectory.note
    assert len(trajectory.losses) <= when
    assert FAR.gap(x) <= FAR.gap(START)
    if when > 60:
        assert FAR.gap(x) < FAR.gap(START)
    assert maker.count == trajectory.trial_steps + len(trajectory.losses)


@pytest.mark.parametrize("when", [1, 2, 7, 12, 14, 16])
def test_interruption_of_an_evaluation(when):
    """Of the search's, of a stage's, and of the comparison after a stage."""
    maker = Maker(FAR, START, at_evaluation=at(when, lambda: throw(KeyboardInterrupt)))
    trajectory, x = go(maker, max_steps=20_000)
    assert trajectory.status == "interrupted"
    assert maker.evaluations >= when
    assert FAR.gap(x) <= FAR.gap(START)


def test_interruption_that_goes_on_ends_it_all_the_same(kind):
    def stop(count):
        if count >= 40:
            raise KeyboardInterrupt

    maker = Maker(FAR, START, at_step=stop)
    maker.at_evaluation = lambda _: stop(maker.count)
    trajectory, x = go(maker, max_steps=2_000, search=False, first_factor=0.03, **kind)
    assert (trajectory.status, len(trajectory.losses)) == ("interrupted", 40)
    np.testing.assert_array_equal(x, maker.x)


def test_interruption_before_the_first_step(kind):
    trajectory, x = go(Maker(FAR, START, at_step=at(0, lambda: throw(KeyboardInterrupt))), **kind)
    assert (trajectory.status, len(trajectory.losses)) == ("interrupted", 0)
    np.testing.assert_array_equal(x, START)


def test_interruption_where_the_loss_is_not_finite_keeps_the_beginning():
    class Cliff(Quadratic):
        def losses(self, x, noise):
            return super().losses(x, noise) + (math.nan if x[0] > 1.0 else 0.0)

    cliff = Cliff(FAR.mode, FAR.curvature)
    maker = Maker(cliff, START, at_step=lambda count: throw(KeyboardInterrupt) if maker.x[0] > 1.0 else None)
    trajectory, x = go(maker, search=False, first_factor=0.3)
    assert trajectory.status == "interrupted"
    np.testing.assert_array_equal(x, START)


@pytest.mark.parametrize("loss", [np.nan, np.inf, -np.inf])
def test_loss_that_is_not_finite_gives_the_last_good_parameters(loss, kind):
    maker = Maker(FAR, START, at_step=at(1_234, lambda: loss))
    trajectory, x = go(maker, max_steps=5_000, search=False, first_factor=0.01, fault="site 'x'", **kind)
    assert trajectory.status == "diverged"
    assert "step 1234" in trajectory.note
    assert "site 'x'" in trajectory.note
    assert len(trajectory.losses) == 1_234
    assert 0.0 < FAR.gap(x) < FAR.gap(START)


def test_failing_step_gives_the_last_good_parameters(kind):
    error = ValueError("scale: found invalid values:\n-1")
    maker = Maker(FAR, START, at_step=at(120, lambda: throw(error)))
    trajectory, x = go(maker, search=False, first_factor=0.01, **kind)
    assert trajectory.status == "diverged"
    assert "step 120 failed" in trajectory.note
    assert "-1" in trajectory.note
    assert np.isfinite(x).all()


def test_error_without_a_message_is_named_by_its_type(kind):
    maker = Maker(FAR, START, at_step=at(120, lambda: throw(ZeroDivisionError())))
    assert "ZeroDivisionError" in go(maker, search=False, first_factor=0.01, **kind)[0].note


def test_first_step_that_fails_is_the_models_fault(kind):
    def fail(_):
        raise RuntimeError("no")

    for search in (True, False):
        with pytest.raises(ModelError, match=r"first SVI step.*RuntimeError"):
            go(Maker(FAR, START, at_step=fail), search=search, **kind)


def test_error_of_another_kind_is_not_swallowed(kind):
    with pytest.raises(KeyError):
        go(Maker(FAR, START, at_step=at(60, lambda: throw(KeyError("bug")))), **kind)


class Spoilt:
    """Its losses tell nothing of parameters that are lost."""

    def losses(self, x, noise):
        return np.zeros(len(noise))

    def slope(self, x, noise):
        return np.zeros_like(x)


def test_parameter_that_is_not_finite_is_noticed(kind):
    maker = Maker(Spoilt(), START)

    def spoil(count):
        if count == 249:
            maker.x[1] = math.nan

    maker.at_step = spoil
    trajectory, x = go(maker, max_steps=2_000, search=False, first_factor=0.01, **kind)
    assert trajectory.status == "diverged"
    assert "parameter" in trajectory.note
    assert np.isfinite(x).all()


def test_parameters_kept_are_finite_also_when_time_is_up(kind, monkeypatch):
    clock = Clock(monkeypatch, 1.0)
    maker = Maker(Spoilt(), START)

    def spoil(count):
        clock.tick(count)
        if count == 149:
            maker.x[1] = math.nan

    maker.at_step = spoil
    trajectory, x = go(maker, max_seconds=149.5, started=0.0, search=False, first_factor=0.01, **kind)
    assert trajectory.status == "out_of_time"
    assert np.isfinite(x).all()


def test_same_seed_same_losses(kind):
    one, other = (go(Maker(FAR, START, seed=3), max_steps=3_000, **kind) for _ in range(2))
    np.testing.assert_array_equal(one[0].losses, other[0].losses)
    np.testing.assert_array_equal(one[1], other[1])
    assert one[0].stages == other[0].stages


def test_progress_is_told_after_the_steps(kind):
    told = []
    go(Maker(FAR, START), max_steps=500, update=lambda done, text: told.append((done, text)), **kind)
    assert told[-1][0] == 500
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert all(text.startswith("ELBO ") for _, text in told)


def test_tolerance_grows_with_many_latents():
    assert Plan(1, num_latents=1).tolerance == Plan(1, num_latents=DIMS_PER_TOLERANCE).tolerance == TOLERANCE
    assert Plan(1, num_latents=10 * DIMS_PER_TOLERANCE).tolerance == pytest.approx(10 * TOLERANCE)


def test_result_holds_an_array():
    found = Trajectory(np.zeros(3), "converged", (0, 3), 1.0)
    assert (found.stages, found.trial_steps, found.note) == ((), 0, "")


# The schedule of plain courses.


def test_flat_loss_converges_and_cools_down():
    maker = Maker(Ramp(0.0), START)
    trajectory, _ = go(maker, max_steps=4_000, averaged=False, search=False)
    assert trajectory.status == "converged"
    assert trajectory.constant == (0, 300)
    assert len(trajectory.losses) == 300 + 500
    assert maker.factors[:301] == [1.0] * 301
    assert np.all(np.diff(maker.factors[300:]) < 0)
    assert maker.factors[-1] == pytest.approx(0.01, rel=0.01)


def test_schedule_of_a_single_step_divides_by_nothing():
    schedule = Schedule(1)
    schedule.start_cooling(0)
    assert schedule.factor(0) == 1.0
    assert schedule.finished(1)


def test_checks_come_at_the_same_steps_whatever_the_length_of_a_chunk():
    schedule, checks = Schedule(20_000), [0]
    while checks[-1] < 20_000 - schedule.cool_steps:
        checks.append(schedule.next_check(checks[-1]))
    gaps = np.diff(checks)
    assert gaps.min() == CHECK_EVERY
    assert np.all(gaps <= np.maximum(CHECK_EVERY, CHECK_SHARE * np.asarray(checks[:-1])))
    assert checks[-1] == 20_000 - schedule.cool_steps
