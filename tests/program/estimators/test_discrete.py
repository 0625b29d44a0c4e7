"""Estimators of discrete guides against exact sums over their values, on free and plated latents."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from ppl_models.errors import OptionError
from ppl_models.inference.gradients import make_replicates, model_setting
from ppl_models.program import build_program, isolated
from ppl_models.program.data import Arguments
from ppl_models.program.elbo import Call
from ppl_models.program.estimators import (
    Enumeration,
    GumbelSoftmax,
    Nvil,
    Rebar,
    Relax,
    Score,
    StraightThrough,
    Vimco,
    signals,
)
from program.estimators.noise import Z, errors_from

COUNT = 1_000
Y = torch.tensor([0.2, 2.9, -0.3, 1.7], dtype=torch.float64)
LOGITS = torch.tensor([-0.5, 0.4, 0.0, 1.2], dtype=torch.float64)
UNBIASED = [
    Score(),
    Score("none"),
    Score("running"),
    Score("learned"),
    Nvil(),
    Rebar(),
    Relax(),
]


def rows(y, size=None):
    """y_i ~ Normal(3 b_i, 1), b_i ~ Bernoulli(0.4)."""
    with pyro.plate("row", len(y), subsample_size=size) as index:
        flag = pyro.sample("flag", dist.Bernoulli(0.4))
        pyro.sample("y", dist.Normal(3.0 * flag, 1.0), obs=y[index])


def rows_guide(y, size=None):
    logits = pyro.param("logits", LOGITS.clone())
    with pyro.plate("row", len(y), subsample_size=size) as index:
        pyro.sample("flag", dist.Bernoulli(logits=logits[index]))


def exact_rows(logits):
    chance = logits.sigmoid()
    log_up = np.log(0.4) + dist.Normal(3.0, 1.0).log_prob(Y) - chance.log()
    log_down = np.log(0.6) + dist.Normal(0.0, 1.0).log_prob(Y) - (1.0 - chance).log()
    return (chance * log_up + (1.0 - chance) * log_down).sum()


CENTRES = torch.tensor([-1.0, 0.0, 2.0], dtype=torch.float64)


def kinds(y):
    """One of three centres, beside a shift of all."""
    shift = pyro.sample("shift", dist.Normal(0.0, 1.0))
    kind = pyro.sample("kind", dist.OneHotCategorical(torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)))
    with pyro.plate("row", len(y)):
        pyro.sample("y", dist.Normal((kind * CENTRES).sum() + shift, 1.0), obs=y)


def kinds_guide(y):
    place = pyro.param("place", torch.tensor(0.3))
    shift = pyro.sample("shift", dist.Normal(place, 0.5))
    pyro.sample("kind", dist.OneHotCategorical(logits=pyro.param("logits", LOGITS[:3].clone()) + 0.5 * shift))


def replicates(model, guide, estimator, *, data=(Y,), num_draws=8, count=COUNT, full=True, seed=3):
    def guided(*args):
        return guide(*args)

    program = build_program(model, data)
    with isolated(seed=0, dtype=torch.float64):
        guided(*program.arguments.args)
        from_store = type(program.parameters).from_store()
    setting = model_setting(program.with_parameters(from_store), guided)
    with program.with_parameters(from_store).isolated(seed=seed, full_data=full):
        estimator.check(program, guided)
        return make_replicates(setting, estimator, num_draws=num_draws, num_replicates=count, num_tuning=20)


@pytest.mark.statistical
@pytest.mark.parametrize("estimator", UNBIASED, ids=repr)
def test_plated_latents_have_the_exact_gradient_in_the_mean(estimator):
    found = replicates(rows, rows_guide, estimator)
    slope, bound = torch.func.grad_and_value(exact_rows)(LOGITS)
    assert errors_from(found.objectives, float(bound)) < Z
    assert (errors_from(found.gradients, slope.numpy()) < Z).all()


@pytest.mark.statistical
@pytest.mark.parametrize("estimator", UNBIASED, ids=repr)
def test_a_path_and_a_score_go_together(estimator):
    exact = replicates(kinds, kinds_guide, Enumeration(), num_draws=50, count=400, seed=11)
    found = replicates(kinds, kinds_guide, estimator)
    error = np.hypot(*(one.gradients.std(axis=0) / np.sqrt(len(one.gradients)) for one in (exact, found)))
    assert (np.abs(exact.gradients.mean(axis=0) - found.gradients.mean(axis=0)) < Z * error).all()


@pytest.mark.statistical
@pytest.mark.parametrize("estimator", [GumbelSoftmax(), StraightThrough(), Nvil(normalise=True)], ids=repr)
def test_biased_ones_say_so_and_are(estimator):
    found = replicates(rows, rows_guide, estimator)
    slope, bound = torch.func.grad_and_value(exact_rows)(LOGITS)
    assert estimator.biased
    assert "[biased]" in repr(estimator)
    assert errors_from(found.objectives, float(bound)) < Z
    assert errors_from(found.gradients, slope.numpy()).max() > Z


@pytest.mark.statistical
@pytest.mark.parametrize("estimator", [Score(), Nvil(), Rebar(), Enumeration()], ids=repr)
def test_subsamples_are_scaled_once(estimator):
    found = replicates(rows, rows_guide, estimator, data=(Y, 2), full=False)
    slope = torch.func.grad(exact_rows)(LOGITS)
    assert (errors_from(found.gradients, slope.numpy()) < Z).all()


def outside(y, size=None):
    """The same with a latent outside of the plate, so that one signal concerns all."""
    pyro.sample("shift", dist.Normal(0.0, 1.0))
    rows(y, size)


def outside_guide(y, size=None):
    pyro.sample("shift", dist.Normal(0.0, 1.0))
    rows_guide(y, size)


@pytest.mark.statistical
@pytest.mark.parametrize("estimator", [Score(), Nvil(), Rebar()], ids=repr)
def test_subsamples_are_scaled_once_where_a_latent_stands_outside(estimator):
    found = replicates(outside, outside_guide, estimator, data=(Y, 2), full=False)
    slope = torch.func.grad(exact_rows)(LOGITS)
    assert (errors_from(found.gradients, slope.numpy()) < Z).all()


@pytest.mark.statistical
def test_a_score_that_is_scaled_twice_is_noticed(monkeypatch):
    once = signals.unscaled
    monkeypatch.setattr(signals, "unscaled", lambda *given: 2.0 * once(*given))
    found = replicates(outside, outside_guide, Score(), data=(Y, 2), full=False)
    assert errors_from(found.gradients, torch.func.grad(exact_rows)(LOGITS).numpy()).max() > Z


def test_enumeration_is_exact_for_every_datum():
    found = replicates(rows, rows_guide, Enumeration(most=2), num_draws=1, count=2)
    slope, bound = torch.func.grad_and_value(exact_rows)(LOGITS)
    np.testing.assert_allclose(found.objectives, float(bound), rtol=1e-10)
    np.testing.assert_allclose(found.gradients, np.tile(slope.numpy(), (2, 1)), rtol=1e-10)
    together = replicates(outside, outside_guide, Enumeration(), num_draws=1, count=2)
    np.testing.assert_allclose(together.gradients, found.gradients, rtol=1e-10)


def test_enumeration_refuses_what_it_cannot_sum():
    def check(estimator, guide):
        with isolated(seed=0, dtype=torch.float64):
            estimator.check(Call(outside, Arguments((Y,), {}, ("y",)), torch.float64), guide)

    with pytest.raises(OptionError, match=r"at most 15 joint values.*'score'"):
        check(Enumeration(most=15), outside_guide)
    check(Enumeration(most=16), outside_guide)

    def counts(y):
        pyro.sample("shift", dist.Normal(0.0, 1.0))
        with pyro.plate("row", len(y)):
            pyro.sample("flag", dist.Poisson(pyro.param("rate", torch.ones(len(y)))))

    with pytest.raises(OptionError, match=r"'flag' \(Poisson\) has no list"):
        check(Enumeration(), counts)


def vimco_bound(logits, inside=3):
    """E[log mean_k w_k] of each datum, by all values of all draws inside."""
    chance = logits.sigmoid()
    values = torch.tensor([[b >> k & 1 for k in range(inside)] for b in range(2**inside)], dtype=torch.float64)
    total = 0.0
    for y, one in zip(Y, chance, strict=True):
        log_q = values * one.log() + (1.0 - values) * (1.0 - one).log()
        prior = (0.4 * values + 0.6 * (1.0 - values)).log()
        weight = prior + dist.Normal(3.0 * values, 1.0).log_prob(y) - log_q
        total = total + (log_q.sum(1).exp() * (weight.logsumexp(1) - np.log(inside))).sum()
    return total


@pytest.mark.statistical
def test_vimco_has_the_gradient_of_the_bound_of_each_datum():
    found = replicates(rows, rows_guide, Vimco(3), num_draws=12)
    slope, bound = torch.func.grad_and_value(vimco_bound)(LOGITS)
    assert errors_from(found.objectives, float(bound)) < Z
    assert (errors_from(found.gradients, slope.numpy()) < Z).all()
    elbo = torch.func.grad(exact_rows)(LOGITS)
    assert errors_from(found.gradients, elbo.numpy()).max() > Z


@pytest.mark.statistical
def test_baselines_and_control_variates_lower_the_variance():
    noise = {
        repr(one): replicates(rows, rows_guide, one).gradients.var(axis=0).sum()
        for one in (Score("none"), Score(), Nvil(), Rebar(), Relax())
    }
    plain, others = noise.pop("score (baseline='none')"), noise
    assert max(others.values()) < 0.5 * plain
    assert noise["rebar"] < 0.8 * min(noise["score"], noise["nvil"])
    assert noise["relax"] < 0.6 * noise["score"]


def test_nvil_reads_its_baseline_off_the_data():
    """Data whose bounds differ by far leave a number for all with a large variance, and a network without."""
    far = (torch.tensor([0.1, 0.1, 8.0, 8.0], dtype=torch.float64),)
    noise = [
        replicates(rows, rows_guide, one, data=far, count=500).gradients[:, 2:].var(axis=0).sum()
        for one in (Nvil(step_size=0.1), Score("running"))
    ]
    assert noise[0] < 0.5 * noise[1]


def test_options_of_a_wrong_kind():
    for make, message in (
        (lambda: Vimco(1), "at least 2"),
        (lambda: Score("mean"), "baseline"),
        (lambda: Nvil(normalise=1), "True or False"),
        (lambda: Rebar(temperature=0.0), "above 0"),
        (lambda: Relax(num_hidden=0), "at least 1"),
        (lambda: GumbelSoftmax(temperature=-1.0), "above 0"),
        (lambda: Enumeration(most=0), "at least 1"),
    ):
        with pytest.raises((OptionError, LookupError), match=message):
            make()
