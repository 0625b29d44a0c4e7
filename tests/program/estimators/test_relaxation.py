"""Discrete draws as functions of continuous ones: their laws, and which guides are refused."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy.stats import gumbel_r, kstest, logistic

from ppl_models.errors import OptionError
from ppl_models.program import isolated
from ppl_models.program.data import Arguments
from ppl_models.program.elbo import Call
from ppl_models.program.estimators import GumbelSoftmax, Rebar, Relax, StraightThrough
from ppl_models.program.estimators.relaxation import Perturbed

COUNT = 20_000
SMALL = 1e-5
"""Probability that a right law is called wrong."""
LOGITS = torch.tensor([0.5, -1.0, 0.2], dtype=torch.float64)
RELAXING = [Rebar(), Relax(), GumbelSoftmax(), StraightThrough()]


def drawn(kind, distribution):
    with isolated(seed=1):
        return Perturbed.of(kind, distribution)


def test_free_and_given_variables_of_a_bernoulli_are_logistic_and_agree_with_the_draw():
    one = drawn("binary", dist.Bernoulli(logits=LOGITS[0].expand(COUNT)))
    for z in (one.free(one.logits), one.given(one.logits)):
        assert ((z > 0).double() == one.hard).all()
        assert kstest((z - LOGITS[0]).numpy(), logistic.cdf).pvalue > SMALL
    # given the draw, the two are independent
    assert (
        np.corrcoef(one.free(one.logits)[one.hard > 0], one.given(one.logits)[one.hard > 0])[0, 1] ** 2 < 20.0 / COUNT
    )


def test_free_and_given_variables_of_categories_are_gumbel_and_agree_with_the_draw():
    one = drawn("one_hot", dist.OneHotCategorical(logits=LOGITS.expand(COUNT, 3)))
    for z in (one.free(one.logits), one.given(one.logits)):
        assert (z.argmax(-1) == one.hard.argmax(-1)).all()
        for category, log_share in enumerate(LOGITS.log_softmax(-1)):
            assert kstest((z[:, category] - log_share).numpy(), gumbel_r.cdf).pvalue > SMALL


def test_a_given_variable_of_the_wrong_draw_is_noticed():
    one = drawn("binary", dist.Bernoulli(logits=LOGITS[0].expand(COUNT)))
    assert kstest((one.other.given(one.logits) - LOGITS[0]).numpy(), logistic.cdf).pvalue < SMALL


def test_soft_values_tend_to_hard_ones():
    for kind, fn in (("binary", dist.Bernoulli(logits=LOGITS)), ("one_hot", dist.OneHotCategorical(logits=LOGITS))):
        one = drawn(kind, fn)
        torch.testing.assert_close(one.soft(one.free(one.logits), 1e-4), one.hard)


def flags():
    with pyro.plate("pair", 2):
        pyro.sample("flag", dist.Bernoulli(0.3))
    pyro.sample("shift", dist.Normal(0.0, 1.0))


def kinds():
    kind = pyro.sample("kind", dist.Categorical(torch.ones(3, dtype=torch.float64)))
    pyro.sample("y", dist.Normal(torch.arange(3.0)[kind], 1.0), obs=torch.tensor(0.5))


def dependent():
    logit = pyro.param("logit", torch.zeros(2))
    with pyro.plate("pair", 2):
        flag = pyro.sample("flag", dist.Bernoulli(logits=logit))
    pyro.sample("shift", dist.Normal(flag.sum(), 1.0))


def counted():
    with pyro.plate("pair", 2):
        pyro.sample("flag", dist.Poisson(pyro.param("rate", torch.ones(2))))
    pyro.sample("shift", dist.Normal(0.0, 1.0))


def continuous():
    pyro.sample("shift", dist.Normal(pyro.param("place", torch.zeros(())), 1.0))


def indexed():
    pyro.sample("kind", dist.Categorical(logits=pyro.param("logits", torch.zeros(3))))


def check(estimator, model, guide):
    with isolated(seed=0, dtype=torch.float64):
        estimator.check(Call(model, Arguments((), {}, ()), torch.float64), guide)


@pytest.mark.parametrize("estimator", RELAXING, ids=lambda one: one.name)
@pytest.mark.parametrize(
    ("guide", "message"),
    [
        (dependent, "'shift' does. Take 'score'"),
        (counted, r"'flag' \(Poisson\) is neither"),
        (continuous, "there are none"),
    ],
)
def test_guides_that_cannot_be_relaxed_are_refused(estimator, guide, message):
    with pytest.raises(OptionError, match=message):
        check(
            estimator, flags if guide is not continuous else lambda: pyro.sample("shift", dist.Normal(0.0, 1.0)), guide
        )


@pytest.mark.parametrize("estimator", [RELAXING[0], *RELAXING[2:]], ids=lambda one: one.name)
def test_indices_have_nothing_between(estimator):
    with pytest.raises(OptionError, match="Take OneHotCategorical"):
        check(estimator, kinds, indexed)
    check(Relax(), kinds, indexed)


def test_models_that_fail_between_the_values_are_refused():
    def model():
        flag = pyro.sample("flag", dist.Bernoulli(0.3))
        if flag not in (0.0, 1.0):
            raise ValueError("a flag is up or down")

    with pytest.raises(OptionError, match=r"a flag is up or down\). Take 'score'"):
        check(Rebar(), model, lambda: pyro.sample("flag", dist.Bernoulli(logits=pyro.param("l", torch.zeros(())))))


def test_parameters_read_past_the_store_are_refused():
    held = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)

    def model():
        flag = pyro.sample("flag", dist.Bernoulli(0.3))
        pyro.sample("y", dist.Normal(flag * held, 1.0), obs=torch.tensor(0.5))

    with pytest.raises(OptionError, match="past the param store"):
        check(Rebar(), model, lambda: pyro.sample("flag", dist.Bernoulli(logits=pyro.param("l", torch.zeros(())))))
