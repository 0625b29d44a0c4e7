"""Whole fits: several starts, one more try behind a divergence, starts and posteriors that cannot be, and options."""

import math
import time

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from closed_forms import DATA, EVIDENCE, MEAN, SD, regression
from pyro.distributions import constraints
from pyro.infer import Trace_ELBO

import ppl_models as ppl
from ppl_models.inference import fault
from ppl_models.inference.course import TOLERANCE
from ppl_models.inference.runs import RETRY_STEP, USERS_STEPS, Start, _news

EAGER = {"backend": "eager", "seed": 0}


def by_hand(x, y=None):
    location = pyro.param("location", torch.zeros(2))
    scale = pyro.param("scale", torch.ones(2), constraint=constraints.positive)
    pyro.sample("weights", dist.Normal(location, scale).to_event(1))


def bimodal():
    """Two modes at ±8 of sd 1, one e times as heavy as the other."""
    z = pyro.sample("z", dist.Normal(0.0, 100.0))
    pyro.factor("modes", torch.logaddexp(-0.5 * (z - 8.0) ** 2, 1.0 - 0.5 * (z + 8.0) ** 2))


def test_the_best_of_several_starts_is_kept_and_how_far_they_are_apart_is_told():
    """A normal on either mode: ELBOs differ by one nat and the difference of the prior's density, 16 sds apart."""
    fit = ppl.fit(bimodal, {}, guide="normal", num_starts=3, num_particles=16, max_steps=600, **EAGER)
    assert len(fit.starts) == 3
    elbos = [start.elbo for start in fit.starts]
    assert max(elbos) - min(elbos) == pytest.approx(1.0, abs=4 * TOLERANCE)
    best = int(np.argmax(elbos))
    assert (fit.starts[best].away, fit.starts[best].latent) == (0.0, "")
    assert float(fit.parameters["AutoNormal.locs.z"]) == pytest.approx(-8.0, abs=0.2)
    assert fit.elbo(2_000)[0] == pytest.approx(elbos[best], abs=0.1)
    for start in fit.starts:
        other = start.elbo < elbos[best] - 0.5
        # 1,000 draws: the mean's standard error is 0.03 sds, the sd's 0.02 of itself, and so 0.4 of 16
        assert start.away == pytest.approx(16.0, abs=4 * 0.4) if other else start.away < 0.25
        assert start.latent == ("z" if other or start.away else "")
        assert (start.status, start.steps) == ("max_steps", 600)
    assert "3 starts" in fit.note
    assert "'z'" in fit.note
    assert "posterior sds" in fit.note


@pytest.mark.exhaustive
def test_starts_that_agree_need_no_note():
    fit = ppl.fit(regression, DATA, guide="full_rank", num_starts=2, num_particles=16, max_steps=600, **EAGER)
    assert len(fit.starts) == 2
    assert max(start.away for start in fit.starts) < 0.25
    assert fit.note == ""
    assert min(start.elbo for start in fit.starts) == pytest.approx(EVIDENCE, abs=0.05)
    assert ppl.fit(regression, DATA, guide="full_rank", max_steps=2, **EAGER).starts == ()


def test_hand_written_guides_and_users_optimizers_start_from_elsewhere_too():
    options = {"guide": by_hand, "num_starts": 2, **EAGER}
    assert len({start.elbo for start in ppl.fit(regression, DATA, max_steps=20, **options).starts}) == 2
    adam = pyro.optim.Adam({"lr": 0.01})
    several = ppl.fit(regression, DATA, optimizer=adam, max_steps=20, **options)
    assert len(several.starts) == 2
    assert not adam.optim_objs  # each start has a copy of its own, without the averages of another
    again = ppl.fit(regression, DATA, optimizer=adam, max_steps=20, **options)
    assert again.starts == several.starts


def test_a_start_that_diverged_is_no_mode():
    found = Start(-1.0, "converged", 10)
    lost = Start(-math.inf, "diverged", 10, away=50.0, latent="z")
    assert _news((found, lost)) == ()
    assert len(_news((found, Start(-2.0, "max_steps", 10, away=50.0, latent="z")))) == 1


class Planted(Trace_ELBO):
    """An ELBO that is not a number at some of its gradients."""

    def __init__(self, bad):
        super().__init__()
        self.bad, self.count = bad, 0

    def loss_and_grads(self, model, guide, *args, **kwargs):
        loss = super().loss_and_grads(model, guide, *args, **kwargs)
        self.count += 1
        return math.nan if self.bad(self.count) else loss


@pytest.mark.parametrize("guide", ["normal", by_hand], ids=["automatic", "by hand"])
def test_a_single_nan_is_retried_once_and_reported(guide):
    fit = ppl.fit(
        regression, DATA, guide=guide, elbo=Planted(lambda n: n == 120), step_size=0.05, max_steps=200, **EAGER
    )
    assert fit.status == "max_steps"
    assert fit.steps == 200
    assert "step 119" in fit.note
    assert f"{RETRY_STEP:g} times the step size" in fit.note
    assert ("initial scale" in fit.note) == (guide == "normal")


def test_nan_for_ever_is_a_divergence_with_finite_parameters():
    """Not more often than once is it tried again."""
    elbo = Planted(lambda n: n > 120)
    fit = ppl.fit(regression, DATA, guide=by_hand, elbo=elbo, step_size=0.05, max_steps=400, **EAGER)
    assert fit.status == "diverged"
    assert fit.note.count("was nan") == 2
    assert fit.note.count("tried again") == 1
    assert elbo.count == 121 + 1
    assert all(torch.isfinite(value).all() for value in fit.parameters.values())
    assert np.isfinite(fit.sample(5)["posterior"]["weights"]).all()


def falls_off_an_edge(pull=-20.0):
    """A model that draws its latent below zero, where its root is not a number."""
    z = pyro.sample("z", dist.Normal(5.0, 1.0))
    pyro.factor("pull", pull * z)
    pyro.factor("root", z.sqrt())


@pytest.mark.filterwarnings("ignore:Encountered NaN")
@pytest.mark.parametrize("precondition", [True, False])
def test_divergence_names_its_site_and_both_tries_are_reported(precondition, monkeypatch):
    monkeypatch.setattr(fault, "NUM_DRAWS", 0)  # the failed step itself is made again
    fit = ppl.fit(falls_off_an_edge, {}, guide="normal", max_steps=2_000, precondition=precondition, **EAGER)
    assert fit.status == "diverged"
    assert fit.note.count("'root'") == 2
    assert "tried again" in fit.note
    assert all(torch.isfinite(value).all() for value in fit.parameters.values())


@pytest.mark.filterwarnings("ignore:Encountered NaN")
def test_a_users_optimizer_is_not_tried_again():
    adam = pyro.optim.Adam({"lr": 0.3})
    fit = ppl.fit(falls_off_an_edge, {}, guide="normal", optimizer=adam, max_steps=500, **EAGER)
    assert fit.status == "diverged"
    assert "tried again" not in fit.note
    assert all(torch.isfinite(value).all() for value in fit.parameters.values())


def test_a_posterior_without_a_scale_is_recognised_and_named():
    def improper(y):
        proper = pyro.sample("proper", dist.Normal(0.0, 1.0))
        pyro.sample("endless", dist.ImproperUniform(constraints.real, (), ()))
        pyro.sample("y", dist.Normal(proper, 1.0), obs=y)

    fit = ppl.fit(improper, (torch.tensor(0.3),), guide="normal", **EAGER)
    assert fit.status == "diverged"
    assert "'endless'" in fit.note
    assert "'proper'" not in fit.note
    assert "tried again" not in fit.note
    assert all(torch.isfinite(value).all() for value in fit.parameters.values())


@pytest.mark.exhaustive
def test_a_flat_direction_between_two_latents_is_recognised():
    def ridge(y):
        a = pyro.sample("a", dist.ImproperUniform(constraints.real, (), ()))
        b = pyro.sample("b", dist.ImproperUniform(constraints.real, (), ()))
        pyro.sample("y", dist.Normal(a + b, 1.0), obs=y)

    fit = ppl.fit(ridge, (torch.tensor(0.3),), guide="full_rank", **EAGER)
    assert fit.status == "diverged"
    assert "'a'" in fit.note
    assert "'b'" in fit.note


def test_a_start_without_a_finite_density_is_reported_and_left():
    def far():
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.factor("wall", torch.where(z > 0.5, 0.0, -math.inf * torch.ones_like(z)))

    # the median of the prior, where the guide begins, has no density
    fit = ppl.fit(far, {}, guide="normal", max_steps=200, **EAGER)
    assert "start" in fit.note
    assert "not finite" in fit.note


@pytest.mark.parametrize("options", [{"max_steps": 250}, {"max_steps": 30, "num_starts": 2}], ids=["search", "starts"])
def test_same_seed_same_fit_and_another_seed_another(options):
    def once(seed):
        return ppl.fit(regression, DATA, guide="normal", seed=seed, num_particles=1, backend="eager", **options)

    one, other, third = once(0), once(0), once(1)
    assert one.losses.tolist() == other.losses.tolist()
    assert one.starts == other.starts
    assert one.stages == other.stages
    assert all(torch.equal(value, other.parameters[name]) for name, value in one.parameters.items())
    assert one.losses.tolist() != third.losses.tolist()


LOOK, NO_LOOK, BY_HAND = ("normal", True), ("normal", False), (by_hand, True)
COURSES = [("auto", "auto"), ("auto", 700), (0.03, "auto"), (0.1, 700)]
PAIRWISE = [
    *((*LOOK, *COURSES[at]) for at in (0, 3)),
    *((*NO_LOOK, *COURSES[at]) for at in (1, 2)),
    *((*BY_HAND, *COURSES[at]) for at in (1, 2)),
]
"""Any two of start, step size and number of steps."""
ALL = [(*start, *course) for start in (LOOK, NO_LOOK, BY_HAND) for course in COURSES]


@pytest.mark.parametrize(
    ("guide", "precondition", "step_size", "max_steps"),
    [pytest.param(*one, marks=() if one in PAIRWISE else pytest.mark.exhaustive) for one in ALL],
)
def test_options_in_any_combination(guide, precondition, step_size, max_steps):
    """All reach the posterior's means to a fraction of an sd; an explicit step size is that of the first stage."""
    fit = ppl.fit(
        regression,
        DATA,
        guide=guide,
        precondition=precondition,
        step_size=step_size,
        max_steps=max_steps,
        num_particles=8,
        **EAGER,
    )
    assert fit.status in ("converged", "max_steps")
    assert fit.note == ""
    if max_steps == "auto":
        assert fit.status == "converged"
    else:
        assert fit.steps <= max_steps
    assert fit.config["preconditioned"] == (precondition and guide == "normal")
    assert (fit.config["trial_steps"] > 0) == (step_size == "auto")
    if step_size != "auto":
        assert fit.stages[0].step_size == pytest.approx(step_size)
    mean = fit.sample(4_000)["posterior"]["weights"].mean(("chain", "draw")).values
    # a mean off by e sds costs e²/2 of the tolerance; 4,000 draws add 0.016 sds of standard error
    away = np.sqrt(2.0 * 3.0 * TOLERANCE) + 4.0 * 0.016
    assert np.abs((mean - MEAN.numpy()) / SD.numpy()).max() < away


def test_a_users_optimizer_makes_all_its_steps_by_default(monkeypatch):
    from ppl_models.inference import runs

    monkeypatch.setattr(runs, "USERS_STEPS", 40)
    fit = ppl.fit(regression, DATA, guide="normal", optimizer=pyro.optim.Adam({"lr": 0.01}), **EAGER)
    assert (fit.steps, fit.constant_phase, fit.config["trial_steps"]) == (40, (0, 40), 0)
    assert fit.config["preconditioned"] is False
    assert USERS_STEPS == 5_000


def test_seconds_are_a_budget_of_the_whole_fit():
    """Steps of 10 ms, three starts: what the first did in the time is kept, and no other is begun."""

    def slow(x, y=None):
        time.sleep(0.01)
        return regression(x, y)

    fit = ppl.fit(
        slow, DATA, guide=by_hand, max_seconds=0.3, num_starts=3, num_particles=1, precondition=False, **EAGER
    )
    assert fit.status == "out_of_time"
    assert "s were used up" in fit.note
    assert "1 of 3 starts" in fit.note
    assert len(fit.starts) == 1
    assert 1 <= fit.steps < 60
    assert fit.config["trial_steps"] < 60


def test_a_budget_of_seconds_that_is_too_small_makes_a_few_steps_all_the_same():
    fit = ppl.fit(regression, DATA, guide=by_hand, max_seconds=1e-6, step_size=0.05, **EAGER)
    assert fit.status == "out_of_time"
    assert 1 <= fit.steps <= 20
    assert np.isfinite(fit.sample(5)["posterior"]["weights"]).all()
