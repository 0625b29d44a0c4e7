"""Fits judged on data that they do not see: they end at the held-out optimum, and keep it."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from randomness import seeded
from torch import nn

import ppl_models as ppl
from ppl_models.errors import DataError, OptionError
from ppl_models.inference.held_out import CHECK_STEPS, MAX_LOWERINGS, PATIENCE
from ppl_models.inference.step_search import LOWER

from .fake_steps import Maker, Quadratic, at, go, throw

TRAIN = Quadratic(np.array([10.0, 0.0]), np.ones(2), slope_sd=0.1)
BEST = 4.0
"""Where, on the way to the training optimum, the held-out loss is smallest."""


def held_out_loss(x):
    return (x[0] - BEST) ** 2


def evaluate():
    return np.array([held_out_loss(pyro.param("x").detach().numpy())])


def fit(evaluate=evaluate, maker=None, **plan):
    maker = maker or Maker(TRAIN, np.zeros(2))
    return go(maker, evaluate, **{"search": False, "first_factor": 0.003, **plan})


@pytest.mark.parametrize("averaged", [True, False])
def test_it_ends_at_the_held_out_optimum_and_keeps_it(averaged):
    """A look is 0.6 of the parameter at the first step size: what is kept lies within half of that at a lower one."""
    trajectory, x = fit(averaged=averaged)
    assert trajectory.status == "converged"
    assert abs(x[0] - BEST) < 0.3
    assert trajectory.losses[-1] < TRAIN.gap([BEST, 0.0])  # the training loss went on falling
    sizes = [stage.step_size for stage in trajectory.stages]
    assert sizes == pytest.approx([0.003 * LOWER**number for number in range(len(sizes))])
    assert 2 <= len(sizes) <= 1 + MAX_LOWERINGS


def test_each_stage_begins_at_the_best_look_and_ends_by_patience():
    looks = []

    def watched():
        looks.append(float(evaluate()[0]))
        return np.array(looks[-1:])

    trajectory, x = fit(watched)
    assert held_out_loss(x) == min(looks)
    assert len(trajectory.losses) == CHECK_STEPS * len(looks)
    best, done = math.inf, 0
    for stage in trajectory.stages:
        mine = looks[done : stage.last // CHECK_STEPS]
        assert stage.first == done * CHECK_STEPS
        assert min(mine[-PATIENCE:]) >= min([best, *mine[:-PATIENCE]])
        assert stage.gain == pytest.approx(best - min([best, *mine]), nan_ok=True) or math.isinf(best)
        best, done = min([best, *mine]), stage.last // CHECK_STEPS
    assert trajectory.constant == (0, len(trajectory.losses))


def test_noise_in_single_looks_is_waited_out():
    """The loss falls all the way, with a bad look after every good one."""
    count = []

    def noisy():
        count.append(None)
        return evaluate() * 0.0 - len(count) + 50.0 * (len(count) % 2)

    trajectory, _ = fit(noisy, max_steps=6_000)
    assert trajectory.status == "max_steps"
    assert len(trajectory.losses) == 6_000


@pytest.mark.parametrize("max_steps", [1, 199, 200, 201, 1_234])
def test_the_budget_of_steps_is_used_to_the_last(max_steps):
    trajectory, x = fit(max_steps=max_steps)
    assert (trajectory.status, len(trajectory.losses)) == ("max_steps", max_steps)
    assert x[0] > 0.0
    assert trajectory.stages[-1].last == max_steps


def test_the_search_is_part_of_it():
    """Its step size is judged on the training loss; the held-out optimum lies beyond what a trial reaches."""
    far = Quadratic(np.array([5_000.0, 0.0]), np.ones(2), slope_sd=0.1)

    def evaluate_far():
        return 1e-3 * np.abs(pyro.param("x").detach().numpy()[:1] - 2_000.0)

    trajectory, x = fit(evaluate_far, Maker(far, np.zeros(2)), search=True, max_steps=20_000)
    assert trajectory.trial_steps > 0
    assert trajectory.status == "converged"
    assert abs(x[0] - 2_000.0) < 0.5 * CHECK_STEPS * trajectory.stages[0].step_size


@pytest.mark.parametrize("when", [10, 700, 1_700])
def test_interruption_keeps_the_best_look(when):
    maker = Maker(TRAIN, np.zeros(2), at_step=at(when, lambda: throw(KeyboardInterrupt)))
    trajectory, x = fit(maker=maker)
    assert (trajectory.status, len(trajectory.losses)) == ("interrupted", when)
    if when > 1_500:  # beyond the optimum, where the best look lies behind
        assert abs(x[0] - BEST) < 0.6
        np.testing.assert_array_equal(maker.x, x)


def test_a_held_out_loss_that_is_never_finite_is_no_convergence():
    trajectory, x = fit(lambda: np.array([math.nan]))
    assert trajectory.status == "diverged"
    assert "held-out" in trajectory.note
    assert np.isfinite(x).all()


def test_single_looks_that_are_not_finite_are_passed_over():
    count = []

    def evaluate_sometimes():
        count.append(None)
        return evaluate() if len(count) % 3 else np.array([math.nan])

    trajectory, x = fit(evaluate_sometimes)
    assert trajectory.status == "converged"
    assert abs(x[0] - BEST) < 0.6


# Real fits.

NUM_ROWS, NUM_FEATURES = 5, 30


def model(y):
    with pyro.plate("row", len(y)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(z[:, None], 3.0).expand([len(y), y.shape[1]]).to_event(1), obs=y)


class Encoder(nn.Module):
    """Large enough to learn five rows by heart."""

    def __init__(self):
        super().__init__()
        with seeded(1):
            self.net = nn.Sequential(nn.Linear(NUM_FEATURES, 64), nn.Tanh(), nn.Linear(64, 2))

    def forward(self, y):
        pyro.module("encoder", self)
        with pyro.plate("row", len(y)):
            location, log_scale = self.net(y).T
            return pyro.sample("z", dist.Normal(location, log_scale.clamp(-7.0, 7.0).exp()))


def rows(seed, count):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, 1)) + 3.0 * rng.normal(size=(count, NUM_FEATURES))


@pytest.mark.exhaustive
def test_overfitting_encoder_stops_and_is_better_on_other_data_than_one_that_goes_on():
    data, other = {"y": rows(0, NUM_ROWS)}, {"y": rows(1, 50)}
    options = {"guide": Encoder(), "num_particles": 1, "backend": "eager", "seed": 0, "step_size": 0.01}
    stopped = ppl.fit(model, data, held_out=other, max_steps=2_400, **options)
    longer = ppl.fit(model, data, max_steps=1_200, **options)
    found = {}
    for name, fit in (("stopped", stopped), ("longer", longer)):
        net = Encoder().double()
        net.load_state_dict({k.removeprefix("encoder$$$"): v for k, v in fit.parameters.items()})
        y = torch.as_tensor(other["y"])
        with torch.no_grad():
            location, log_scale = net.net(y).T
        found[name] = float(_exact_elbo(y, location, log_scale.clamp(-7.0, 7.0).exp()))
    assert found["stopped"] > found["longer"] + 0.3
    assert stopped.constant_phase == (0, stopped.steps)


def _exact_elbo(y, mean, sd):
    """Per row, less what does not depend on the guide."""
    precision = 1.0 + y.shape[1] / 9.0
    centre = y.sum(1) / 9.0 / precision
    return (-0.5 * precision * ((mean - centre) ** 2 + sd**2) + sd.log()).mean()


def test_several_starts_keep_the_best_look_of_the_best():
    data = {"y": rows(0, NUM_ROWS)}
    options = {"guide": Encoder(), "num_particles": 1, "backend": "eager", "seed": 0, "max_steps": 400}
    fit = ppl.fit(model, data, held_out={"y": rows(1, 20)}, num_starts=2, step_size=0.01, **options)
    one = ppl.fit(model, data, held_out={"y": rows(1, 20)}, step_size=0.01, **options)
    assert len(fit.starts) == 2
    first = all(torch.equal(fit.parameters[name], value) for name, value in one.parameters.items())
    assert first == (fit.starts[0].elbo >= fit.starts[1].elbo)


def test_held_out_data_that_do_not_fit_are_named_before_any_step():
    with pytest.raises(DataError, match="held_out"):
        ppl.fit(model, {"y": rows(0, 5)}, guide=Encoder(), held_out={"y": np.zeros((3, 4))}, max_steps=5)
    with pytest.raises(OptionError, match="held_out"):
        ppl.fit(
            model,
            {"y": rows(0, 5)},
            guide=Encoder(),
            held_out={"y": rows(1, 5)},
            optimizer=pyro.optim.Adam({"lr": 0.01}),
            max_steps=5,
        )
