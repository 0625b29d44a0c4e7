"""Discrete sites that are summed out, against mixtures marginalised by hand."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from closed_forms import log_normal_density
from scipy.special import logsumexp

from ppl_models.errors import ModelError
from ppl_models.program import build_program

from .evaluation import points, value_and_gradient

Y = np.array([-2.0, 0.3, 1.7, 4.0])
SUMMED = {"infer": {"enumerate": "parallel"}}


def mixture(y):
    shares = pyro.sample("shares", dist.Dirichlet(torch.tensor([2.0, 3.0, 1.0])))
    means = pyro.sample("means", dist.Normal(torch.zeros(3), 2.0).to_event(1))
    with pyro.plate("row", len(y)):
        label = pyro.sample("label", dist.Categorical(shares), **SUMMED)
        pyro.sample("y", dist.Normal(means[label], 0.8), obs=y)


def mixture_by_hand(y):
    shares = pyro.sample("shares", dist.Dirichlet(torch.tensor([2.0, 3.0, 1.0])))
    means = pyro.sample("means", dist.Normal(torch.zeros(3), 2.0).to_event(1))
    with pyro.plate("row", len(y)):
        pyro.sample("y", dist.MixtureSameFamily(dist.Categorical(shares), dist.Normal(means, 0.8)), obs=y)


def two_labels(y):
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    with pyro.plate("row", len(y)):
        first = pyro.sample("first", dist.Bernoulli(0.3), **SUMMED)
        second = pyro.sample("second", dist.Bernoulli(0.2 + 0.5 * first), **SUMMED)
        pyro.sample("y", dist.Normal(mu + first + 2 * second, 1.0), obs=y)


def label_of_a_group(y):
    means = pyro.sample("means", dist.Normal(torch.zeros(2), 2.0).to_event(1))
    with pyro.plate("group", y.shape[-1], dim=-1):
        label = pyro.sample("label", dist.Categorical(torch.tensor([0.25, 0.75])), **SUMMED)
        with pyro.plate("row", y.shape[-2], dim=-2):
            pyro.sample("y", dist.Normal(means[label], 1.0), obs=y)


def chain(y):
    spread = pyro.sample("spread", dist.LogNormal(0.0, 1.0))
    state = torch.tensor(0)
    for i in pyro.markov(range(len(y))):
        state = pyro.sample(f"state_{i}", dist.Categorical(torch.tensor([[0.9, 0.1], [0.3, 0.7]])[state]), **SUMMED)
        pyro.sample(f"y_{i}", dist.Normal(2.0 * state, spread), obs=y[i])


def test_mixture_equals_the_marginal_distribution():
    summed, by_hand = build_program(mixture, (Y,)), build_program(mixture_by_hand, (Y,))
    assert [site.name for site in summed.sites.enumerated] == ["label"]
    assert summed.num_dims == by_hand.num_dims == 5
    for flat in points(summed):
        found, wanted = value_and_gradient(summed, flat), value_and_gradient(by_hand, flat)
        assert found[0] == pytest.approx(wanted[0], rel=1e-10)
        torch.testing.assert_close(found[1], wanted[1], rtol=1e-9, atol=1e-10)


def test_two_dependent_labels_in_one_plate():
    program = build_program(two_labels, (Y,))
    for (mu,) in points(program).tolist():
        terms = [
            np.log((0.3 if first else 0.7) * (0.2 + 0.5 * first if second else 0.8 - 0.5 * first))
            + log_normal_density(Y, mu + first + 2 * second, 1.0)
            for first in (0, 1)
            for second in (0, 1)
        ]
        wanted = log_normal_density(mu, 0, 1) + logsumexp(terms, axis=0).sum()
        assert value_and_gradient(program, [mu])[0] == pytest.approx(wanted, rel=1e-10)


def test_label_of_an_outer_plate_is_summed_after_the_inner_one():
    y = np.array([[0.1, 2.0, -1.0], [0.4, 1.0, -3.0]])
    program = build_program(label_of_a_group, (y,))
    for flat in points(program):
        means = flat.numpy()
        terms = np.stack(
            [np.log(w) + log_normal_density(y, m, 1.0).sum(0) for w, m in zip((0.25, 0.75), means, strict=True)]
        )
        wanted = log_normal_density(means, 0, 2).sum() + logsumexp(terms, axis=0).sum()
        assert value_and_gradient(program, flat)[0] == pytest.approx(wanted, rel=1e-10)


def test_hidden_markov_chain_equals_the_forward_algorithm():
    program = build_program(chain, (Y,))
    transition = np.log([[0.9, 0.1], [0.3, 0.7]])
    for (log_spread,) in points(program).tolist():
        forward = np.array([0.0, -np.inf])
        for y in Y:
            forward = logsumexp(forward[:, None] + transition, axis=0)
            forward += log_normal_density(y, np.array([0.0, 2.0]), np.exp(log_spread))
        # the log-normal's density and the Jacobian leave a standard normal of the logarithm
        wanted = log_normal_density(log_spread, 0, 1) + logsumexp(forward)
        assert value_and_gradient(program, [log_spread])[0] == pytest.approx(wanted, rel=1e-10)


def test_log_likelihood_says_how_to_get_separate_terms():
    program = build_program(mixture, (Y,))
    with program.isolated(), pytest.raises(ModelError, match="MixtureSameFamily"):
        program.log_likelihood({"shares": torch.ones(3) / 3, "means": torch.zeros(3)})


def test_overlapping_plates_are_refused():
    def model():
        pyro.sample("mu", dist.Normal(0.0, 1.0))
        rows, columns = pyro.plate("row", 2, dim=-1), pyro.plate("column", 3, dim=-2)
        with rows:
            first = pyro.sample("first", dist.Bernoulli(0.5), **SUMMED)
        with columns:
            second = pyro.sample("second", dist.Bernoulli(0.5), **SUMMED)
        with rows, columns:
            pyro.sample("y", dist.Normal(first + second, 1.0), obs=torch.zeros(3, 2))

    with pytest.raises(ModelError, match="cannot be summed out"):
        build_program(model, ())
