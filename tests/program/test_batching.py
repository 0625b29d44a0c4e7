"""Functions of one draw applied to many."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import scipy.stats as st
import torch
from pyro import poutine

from ppl_models.program import batching, build_program, can_vmap, isolated, map_draws

NUM_DRAWS = 4_000
LOW = torch.tensor([0.0, 1.0], dtype=torch.float64)
A, B = torch.tensor(2.0, dtype=torch.float64), torch.tensor(3.0, dtype=torch.float64)


def looped(function, *batches):
    return torch.stack([function(*(batch[i] for batch in batches)) for i in range(len(batches[0]))])


def branching(x):
    return x if float(x) > 0 else 2 * x


def test_values_equal_the_loop():
    x = torch.linspace(-1, 1, 7, dtype=torch.float64)
    weights = torch.arange(14.0, dtype=torch.float64).reshape(7, 2)

    def function(value, pair):
        return value * pair.sum() + torch.linalg.norm(pair)

    assert can_vmap(function, x[:2], weights[:2])
    torch.testing.assert_close(map_draws(function, 7, x, weights), looped(function, x, weights), rtol=1e-12, atol=0)


def test_dicts_go_in_and_out():
    batch = {"a": torch.arange(3.0), "b": torch.ones(3, 2)}
    found = map_draws(lambda draw: {"sum": draw["a"] + draw["b"].sum(), "constant": torch.ones(2)}, 3, batch)
    assert found["sum"].tolist() == [2.0, 3.0, 4.0]
    assert found["constant"].shape == (3, 2)


def test_model_that_reads_a_value_is_looped_over():
    x = torch.tensor([-1.0, 2.0, -3.0])
    assert not can_vmap(branching, x[:2])
    assert map_draws(branching, 3, x).tolist() == [-2.0, 2.0, -6.0]


def test_real_error_is_that_of_one_draw():
    def wrong(x):
        raise ValueError(f"x has shape {tuple(x.shape)}")

    with pytest.raises(ValueError, match=r"x has shape \(2,\)"):
        map_draws(wrong, 3, torch.ones(3, 2))


def test_chunks_join_in_order(monkeypatch):
    monkeypatch.setattr(batching, "CHUNK_ELEMENTS", 20)
    x = torch.arange(23.0)
    sizes = []

    def function(value):
        sizes.append(1)
        return value + 1

    assert map_draws(function, 23, x, size_hint=10).tolist() == (x + 1).tolist()
    assert len(sizes) == 12  # two draws a call
    assert map_draws(function, 23, x, size_hint=10**9).tolist() == (x + 1).tolist()


def test_log_density_of_many_points_equals_the_loop():
    def model(y):
        scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
        shares = pyro.sample("shares", dist.Dirichlet(torch.ones(3)))
        with pyro.plate("row", len(y)):
            components = dist.Normal(torch.arange(3.0), scale)
            pyro.sample("y", dist.MixtureSameFamily(dist.Categorical(shares), components), obs=y)

    program = build_program(model, (np.array([0.1, 2.0, 0.7]),))
    flat = torch.randn(9, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with program.isolated(), torch.no_grad():
        assert can_vmap(program.log_density, flat[:2])
        found, wanted = map_draws(program.log_density, 9, flat), looped(program.log_density, flat)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


CONTINUOUS = {
    "normal": (lambda: dist.Normal(A, B), st.norm(2, 3)),
    "uniform": (lambda: dist.Uniform(A, B), st.uniform(2, 1)),
    "exponential": (lambda: dist.Exponential(A), st.expon(scale=1 / 2)),
    "cauchy": (lambda: dist.Cauchy(A, B), st.cauchy(2, 3)),
    "half_cauchy": (lambda: dist.HalfCauchy(B), st.halfcauchy(scale=3)),
    "half_normal": (lambda: dist.HalfNormal(B), st.halfnorm(scale=3)),
    "gamma": (lambda: dist.Gamma(A, B), st.gamma(2, scale=1 / 3)),
    "inverse_gamma": (lambda: dist.InverseGamma(A, B), st.invgamma(2, scale=3)),
    "beta": (lambda: dist.Beta(A, B), st.beta(2, 3)),
    "student_t": (lambda: dist.StudentT(B, A, B), st.t(3, 2, 3)),
    "laplace": (lambda: dist.Laplace(A, B), st.laplace(2, 3)),
    "gumbel": (lambda: dist.Gumbel(A, B), st.gumbel_r(2, 3)),
    "log_normal": (lambda: dist.LogNormal(A, B), st.lognorm(3, scale=np.exp(2))),
    "logistic": (lambda: dist.Logistic(A, B), st.logistic(2, 3)),
    "weibull": (lambda: dist.Weibull(A, B), st.weibull_min(3, scale=2)),
    "pareto": (lambda: dist.Pareto(A, B), st.pareto(3, scale=2)),
    "kumaraswamy": (lambda: dist.Kumaraswamy(torch.ones(()).double(), B), st.beta(1, 3)),
    "von_mises": (lambda: dist.VonMises(torch.zeros(()).double(), B), st.vonmises(3)),
    "chi2": (lambda: dist.Chi2(B), st.chi2(3)),
    "mixture": (
        lambda: dist.MixtureSameFamily(dist.Categorical(torch.ones(2)), dist.Uniform(LOW, LOW + 1)),
        st.uniform(0, 2),
    ),
    "first_of_dirichlet": (lambda: dist.Dirichlet(torch.stack([A, B])), st.beta(2, 3)),
    "multivariate_normal": (lambda: dist.MultivariateNormal(A.repeat(2), 9 * torch.eye(2).double()), st.norm(2, 3)),
}
DISCRETE = {
    "bernoulli": (lambda: dist.Bernoulli(torch.tensor(0.3)), st.bernoulli(0.3)),
    "categorical": (
        lambda: dist.Categorical(torch.tensor([0.2, 0.3, 0.5])),
        st.rv_discrete(values=([0, 1, 2], [0.2, 0.3, 0.5])),
    ),
    "binomial": (lambda: dist.Binomial(10, torch.tensor(0.3)), st.binom(10, 0.3)),
    "poisson": (lambda: dist.Poisson(A), st.poisson(2)),
    "geometric": (lambda: dist.Geometric(torch.tensor(0.3)), st.nbinom(1, 0.3)),
    "negative_binomial": (lambda: dist.NegativeBinomial(A, torch.tensor(0.3)), st.nbinom(2, 0.7)),
    "beta_binomial": (lambda: dist.BetaBinomial(A, B, 10), st.betabinom(10, 2, 3)),
}


def draws_of(make):
    with isolated(seed=0, dtype=torch.float64):
        return map_draws(lambda: pyro.sample("z", make()), NUM_DRAWS).numpy()


@pytest.mark.statistical
@pytest.mark.parametrize("name", CONTINUOUS)
def test_random_functions_draw_from_their_distribution(name):
    """Kolmogorov and Smirnov's test; 22 distributions at 1e-5 each give a false alarm in 1 of 4,500 sets of seeds."""
    make, wanted = CONTINUOUS[name]
    draws = draws_of(make)
    first = draws.reshape(NUM_DRAWS, -1)[:, 0]
    assert len(np.unique(first)) > 0.99 * NUM_DRAWS
    assert st.kstest(first, wanted.cdf).pvalue > 1e-5


@pytest.mark.statistical
@pytest.mark.parametrize("name", DISCRETE)
def test_random_functions_draw_counts(name):
    """Means and variances, each within 5 standard errors."""
    make, wanted = DISCRETE[name]
    draws, mean, variance = draws_of(make).astype(float), wanted.mean(), wanted.var()
    assert abs(draws.mean() - mean) < 5 * np.sqrt(variance / NUM_DRAWS)
    squares = (draws - mean) ** 2
    assert abs(squares.mean() - variance) < 5 * squares.std() / np.sqrt(NUM_DRAWS)


@pytest.mark.statistical
def test_draws_of_a_hierarchy_follow_it():
    """z ~ N(0, 1), x_i | z ~ N(z, 1): variance 2 and covariance 1, within 5 standard errors of Gaussian moments."""

    def model():
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("row", 2):
            return pyro.sample("x", dist.Normal(z, 1.0))

    with isolated(seed=1, dtype=torch.float64):
        draws = map_draws(lambda: poutine.trace(model).get_trace().nodes["x"]["value"], NUM_DRAWS).numpy()
    covariance = np.cov(draws.T)
    assert abs(covariance[0, 0] - 2) < 5 * 2 * np.sqrt(2 / NUM_DRAWS)
    assert abs(covariance[0, 1] - 1) < 5 * np.sqrt((1 + 2 * 2) / NUM_DRAWS)


def test_same_seed_same_draws():
    make = CONTINUOUS["normal"][0]
    assert np.array_equal(draws_of(make), draws_of(make))
