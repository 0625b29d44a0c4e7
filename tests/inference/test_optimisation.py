"""The loop around SVI on made-up steps: schedule, statuses, and which parameters are kept."""

import numpy as np
import pyro
import pytest
import torch

from ppl_models.errors import ModelError
from ppl_models.inference.optimisation import CHECK_EVERY, CHECK_SHARE, Schedule, optimise
from ppl_models.program import isolated


class Steps:
    """Steps that count themselves, write their number into the only parameter, and do something at one of them."""

    def __init__(self, loss=lambda step: 0.0, at=None, do=lambda: None):
        self.count, self.loss, self.at, self.do = 0, loss, at, do
        self.factors = []

    backend, adjustable = "eager", True

    def run_one(self):
        if self.count == self.at:
            outcome = self.do()
            if outcome is not None:
                return outcome
        self.count += 1
        with torch.no_grad():
            pyro.get_param_store()._params["count"].fill_(float(self.count))
        return self.loss(self.count)

    def run(self, factors, losses):
        for factor in factors:
            self.factors.append(factor)
            losses.append(self.run_one())
            if not np.isfinite(losses[-1]):
                return

    def write(self):
        pass

    def fault(self):
        return "site 'x'" if self.at is not None else ""

    def optimise(self, max_steps, *, adjustable=True):
        self.adjustable = adjustable
        with isolated():
            pyro.param("count", torch.tensor(0.0))
            trajectory = optimise(self, max_steps, lambda *_: None)
            return trajectory, float(pyro.param("count").detach())


def throw(error):
    def do():
        raise error

    return do


def test_flat_loss_converges_and_cools_down():
    steps = Steps()
    trajectory, _ = steps.optimise(4_000)
    assert trajectory.status == "converged"
    assert trajectory.constant == (0, 300)
    assert len(trajectory.losses) == 300 + 500
    assert steps.factors[:301] == [1.0] * 301
    assert np.all(np.diff(steps.factors[300:]) < 0)
    assert steps.factors[-1] == pytest.approx(0.01, rel=0.01)


def test_moving_loss_uses_its_steps_and_cools_down_at_the_end():
    steps = Steps(loss=lambda step: -float(step))
    trajectory, _ = steps.optimise(1_000)
    assert trajectory.status == "max_steps"
    assert len(trajectory.losses) == 1_000
    assert trajectory.constant == (0, 750)
    assert sum(factor < 1.0 for factor in steps.factors) == 249


@pytest.mark.parametrize("max_steps", [1, 49, 50, 51, 99, 200])
def test_few_steps_are_all_made(max_steps):
    trajectory, count = Steps(loss=lambda step: -float(step)).optimise(max_steps)
    assert (len(trajectory.losses), count) == (max_steps, max_steps)
    assert trajectory.status == "max_steps"


def test_users_optimizer_makes_every_step():
    steps = Steps(loss=lambda step: -float(step))
    trajectory, _ = steps.optimise(700, adjustable=False)
    assert len(trajectory.losses) == 700
    assert trajectory.constant == (0, 700)
    assert steps.factors == [1.0] * 700


@pytest.mark.parametrize("loss", [np.nan, np.inf, -np.inf])
def test_loss_that_is_not_finite_gives_the_last_good_parameters(loss):
    trajectory, count = Steps(at=120, do=lambda: loss).optimise(1_000)
    assert trajectory.status == "diverged"
    assert "step 120" in trajectory.note
    assert "site 'x'" in trajectory.note
    assert len(trajectory.losses) == 120
    assert count == 120 // CHECK_EVERY * CHECK_EVERY


def test_failing_step_gives_the_last_good_parameters():
    trajectory, count = Steps(at=120, do=throw(ValueError("scale: found invalid values:\n-1"))).optimise(1_000)
    assert (trajectory.status, count) == ("diverged", 100.0)
    assert "step 120 failed" in trajectory.note
    assert "-1" in trajectory.note


def test_error_without_a_message_is_named_by_its_type():
    trajectory, _ = Steps(at=120, do=throw(ZeroDivisionError())).optimise(1_000)
    assert "ZeroDivisionError" in trajectory.note


def test_first_step_that_fails_is_the_models_fault():
    with pytest.raises(ModelError, match=r"first SVI step.*RuntimeError"):
        Steps(at=0, do=throw(RuntimeError("no"))).optimise(10)


def test_parameter_that_is_not_finite_is_noticed():
    def spoil():
        with torch.no_grad():
            pyro.get_param_store()._params["count"].fill_(float("nan"))
        return 0.0

    steps = Steps(at=149, do=spoil)
    steps.loss = lambda step: 0.0
    trajectory, count = steps.optimise(1_000)
    assert (trajectory.status, count) == ("diverged", 100.0)
    assert "parameter" in trajectory.note


def test_interruption_keeps_what_was_done():
    trajectory, count = Steps(at=123, do=throw(KeyboardInterrupt())).optimise(1_000)
    assert (trajectory.status, count) == ("interrupted", 123.0)
    assert len(trajectory.losses) == 123
    assert "123 steps" in trajectory.note


def test_interruption_before_the_first_step():
    trajectory, count = Steps(at=0, do=throw(KeyboardInterrupt())).optimise(10)
    assert (trajectory.status, len(trajectory.losses), count) == ("interrupted", 0, 0.0)


def test_error_of_another_kind_is_not_swallowed():
    with pytest.raises(KeyError):
        Steps(at=60, do=throw(KeyError("bug"))).optimise(100)


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
