"""Steps by Pyro: its ELBO and gradient with our Adam are Pyro's SVI with torch's, and later parameters learn too."""

import math
from contextlib import contextmanager

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from closed_forms import DATA, X, Y, regression
from engine.steps import BETAS
from pyro.infer import SVI, Trace_ELBO

import guides
from ppl_models.engine import Adam
from ppl_models.inference import eager_steps as module
from ppl_models.inference.eager_steps import EagerSteps, PyroSteps
from ppl_models.program import build_program

RATE = 0.05


def adam(rate=RATE):
    return pyro.optim.Adam({"lr": rate, "betas": BETAS})


@contextmanager
def world(guide="normal", model=regression, data=DATA):
    program = build_program(model, data)
    with program.isolated(seed=1, full_data=False, num_threads=1):
        used = guides.make(guide, program.model) if isinstance(guide, str) else guide
        used(*program.arguments.args, **program.arguments.kwargs)
        program.model(*program.arguments.args, **program.arguments.kwargs)
        torch.manual_seed(7)
        yield program, used


def eager(program, guide, objective=None, **options):
    return EagerSteps(program, guide, objective or Trace_ELBO(), Adam(RATE, BETAS), **options)


def stored():
    return {name: value.detach().clone() for name, value in pyro.get_param_store().named_parameters()}


def same(one, other, **tolerance):
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], **tolerance)


@pytest.mark.parametrize("family", ["normal", "full_rank", "low_rank", "iaf", "delta"])
def test_steps_are_those_of_pyros_svi(family):
    with world(family) as (program, guide):
        steps, losses = eager(program, guide), []
        steps.run(np.ones(25), losses)
        found = stored()
        assert steps.num_steps == 25
    with world(family) as (program, guide):
        svi = SVI(program.model, guide, adam(), Trace_ELBO())
        wanted = [svi.step(**program.arguments.kwargs) for _ in range(25)]
        same(found, stored(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(losses, wanted, rtol=1e-10)


def test_factors_are_those_of_the_step_size():
    with world() as (program, guide):
        steps, losses = eager(program, guide), []
        steps.run(np.array([0.0, 0.0]), losses)
        assert torch.equal(steps.position(), steps.take_mean())
        before = steps.position()
        steps.run(np.array([1e-3]), losses)
        assert float((steps.position() - before).abs().max()) < 1.01e-3 * RATE * 5.0


def test_steps_may_be_made_in_any_pieces():
    found = []
    for counts in ((20,), (1, 7, 12)):
        with world() as (program, guide):
            steps, losses = eager(program, guide), []
            for count in counts:
                steps.run(np.ones(count), losses)
            found.append(losses)
    assert found[0] == found[1]


def test_gradients_are_not_left_behind():
    with world() as (program, guide):
        eager(program, guide).run(np.ones(2), [])
        assert all(value.grad is None for _, value in pyro.get_param_store().named_parameters())


def growing(model_calls):
    """A guide with a parameter that first appears in its fourth step."""

    def guide(x, y=None):
        model_calls.append(None)
        loc = pyro.param("loc", torch.zeros(2))
        late = pyro.param("late", torch.zeros(2)) if len(model_calls) > 4 else 0.0
        pyro.sample("weights", dist.Normal(loc + late, 0.1).to_event(1))

    return guide


@pytest.mark.parametrize("rate", [1.0, 1e-3])
def test_parameters_of_a_later_step_are_trained(rate):
    """As by Pyro's SVI at the same rate, from their first step on."""
    found = []
    for kind in ("ours", "pyro's"):
        with world(growing([])) as (program, guide):
            if kind == "ours":
                steps = eager(program, guide)
                steps.run(np.full(10, rate), [])
            else:
                svi = SVI(program.model, guide, adam(RATE * rate), Trace_ELBO())
                for _ in range(10):
                    svi.step(**program.arguments.kwargs)
            found.append(stored())
    assert found[0].keys() == {"loc", "late"}
    assert float(found[0]["late"].abs().min()) > 0.0
    same(found[0], found[1], rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("ignore:Encountered NaN")
def test_a_loss_that_is_not_finite_moves_nothing():
    failing = []

    def model(x, y=None):
        weights = pyro.sample("weights", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
        pyro.factor("trap", weights.sum() * (math.nan if failing else 1.0))

    with world(growing([]), model) as (program, guide):
        steps, losses = eager(program, guide), []
        steps.run(np.ones(6), losses)
        before, position = stored(), steps.position()
        failing.append(True)
        steps.run(np.ones(5), losses)
        assert len(losses) == 7
        assert math.isnan(losses[-1])
        assert steps.num_steps == 6
        same(stored(), before, rtol=0.0, atol=0.0)
        failing.clear()
        steps.move(position)
        steps.run(np.ones(2), losses)
        assert np.isfinite(losses[-2:]).all()
        assert "late" in before


def test_losses_elsewhere_are_the_objectives():
    with world() as (program, guide):
        steps = eager(program, guide)
        steps.run(np.ones(3), [])
        point = steps.position() + 0.3
        before, here = torch.get_rng_state(), stored()
        losses = steps.losses_at(point, 6, seed=11)
        assert torch.equal(torch.get_rng_state(), before)
        same(stored(), here, rtol=0.0, atol=0.0)
        steps.move(point)
        torch.manual_seed(11)
        wanted = [Trace_ELBO().loss(program.model, guide, **program.arguments.kwargs) for _ in range(6)]
    assert losses.tolist() == wanted


def test_losses_elsewhere_leave_all_as_it_was_where_they_fail():
    class Failing(Trace_ELBO):
        def loss(self, *args, **kwargs):
            raise ValueError("no loss here")

    with world() as (program, guide):
        steps = eager(program, guide, Failing())
        here, state = stored(), steps.position()
        with pytest.raises(ValueError, match="no loss here"):
            steps.losses_at(state + 1.0, 3, seed=0)
        same(stored(), here, rtol=0.0, atol=0.0)
        assert torch.equal(steps.position(), state)


def test_large_vectors_are_not_averaged(monkeypatch):
    monkeypatch.setattr(module, "MOST_AVERAGED", 3)
    with world() as (program, guide):
        steps = eager(program, guide)
        steps.run(np.ones(3), [])
        assert not steps.averaged
        assert torch.equal(steps.take_mean(), steps.position())


def test_the_data_of_each_step_come_from_the_batches():
    with world() as (program, guide):
        arguments = program.arguments
        other = arguments.with_tensors({"x": X, "y": Y + 5.0})
        steps, losses = eager(program, guide, batches=iter([arguments, other, arguments])), []
        steps.run(np.zeros(3), losses)
    assert losses[1] > losses[0] + 10.0
    assert losses[1] > losses[2] + 10.0


def test_an_optimizer_of_the_users_makes_pyros_steps():
    found = []
    for kind in ("ours", "pyro's"):
        with world() as (program, guide):
            losses = []
            if kind == "ours":
                steps = PyroSteps(program, guide, Trace_ELBO(), adam())
                steps.run(np.zeros(8), losses)
                steps.write()
            else:
                svi = SVI(program.model, guide, adam(), Trace_ELBO())
                losses = [svi.step(**program.arguments.kwargs) for _ in range(8)]
            found.append((losses, stored()))
    assert found[0][0] == found[1][0]
    same(found[0][1], found[1][1], rtol=0.0, atol=0.0)


def test_a_schedule_of_the_users_is_followed():
    optimizer = pyro.optim.ExponentialLR(
        {"optimizer": torch.optim.Adam, "optim_args": {"lr": RATE, "betas": BETAS}, "gamma": 0.5}
    )
    with world() as (program, guide):
        PyroSteps(program, guide, Trace_ELBO(), optimizer).run(np.ones(4), [])
        rates = {group["lr"] for one in optimizer.optim_objs.values() for group in one.optimizer.param_groups}
    assert rates == {RATE * 0.5**4}
