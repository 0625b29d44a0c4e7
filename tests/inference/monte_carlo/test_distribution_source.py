import math

import numpy as np
import pyro.distributions as pyro_dist
import pytest
import torch
from scipy import stats
from torch import distributions as dist

from ppl_models.errors import DataError, OptionError
from ppl_models.inference.monte_carlo.distribution_source import DistributionSource
from tests.randomness import seeded

UNIFORM = torch.tensor([1e-7, 0.01, 0.31, 0.5, 0.77, 0.999, 1.0 - 1e-7], dtype=torch.float64)


def number(value):
    return torch.tensor(value, dtype=torch.float64)


@pytest.mark.parametrize(
    ("q", "known"),
    [
        (dist.Normal(number(1.0), number(2.0)), stats.norm(1.0, 2.0)),
        (dist.Uniform(number(-1.0), number(3.0)), stats.uniform(-1.0, 4.0)),
        (dist.Exponential(number(2.0)), stats.expon(scale=0.5)),
        (dist.Laplace(number(1.0), number(2.0)), stats.laplace(1.0, 2.0)),
        (dist.Gamma(number(0.7), number(2.0)), stats.gamma(0.7, scale=0.5)),
        (dist.Chi2(number(3.0)), stats.chi2(3.0)),
        (dist.Beta(number(0.5), number(2.0)), stats.beta(0.5, 2.0)),
        (dist.StudentT(number(2.5), number(1.0), number(3.0)), stats.t(2.5, 1.0, 3.0)),
        (dist.LogNormal(number(0.5), number(0.8)), stats.lognorm(0.8, scale=math.exp(0.5))),
        (dist.Cauchy(number(0.0), number(1.0)), stats.cauchy()),
        (dist.HalfNormal(number(2.0)), stats.halfnorm(scale=2.0)),
        (dist.Poisson(number(3.7)), stats.poisson(3.7)),
        (dist.Binomial(7, number(0.3)), stats.binom(7, 0.3)),
        (dist.Bernoulli(number(0.3)), stats.bernoulli(0.3)),
        (dist.Geometric(number(0.3)), stats.geom(0.3, loc=-1)),
        (pyro_dist.InverseGamma(number(3.0), number(2.0)), None),
    ],
)
def test_draws_are_the_inverse_cdf_of_the_uniform_numbers(q, known):
    source = DistributionSource(q)
    assert source.num_uniforms == 1
    found = source.from_uniform(UNIFORM[:, None])
    if known is None:
        known, uniform = stats.invgamma(3.0, scale=2.0), 1.0 - UNIFORM  # its base, a gamma, is decreasing in it
    else:
        uniform = UNIFORM
    np.testing.assert_allclose(found, known.ppf(uniform), rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(found[1:-1], known.ppf(uniform)[1:-1], rtol=1e-9)
    np.testing.assert_allclose(source.from_normal(torch.special.ndtri(UNIFORM)[1:-1, None]), found[1:-1], rtol=1e-9)


def test_categorical_batches_and_counts_of_many_rates():
    source = DistributionSource(dist.Categorical(torch.tensor([0.2, 0.5, 0.3])))
    np.testing.assert_array_equal(source.from_uniform(torch.tensor([[0.1], [0.6], [0.95]]).double()), [0, 1, 2])
    source = DistributionSource(dist.Poisson(torch.tensor([1.0, 30.0])))
    found = source.from_uniform(torch.tensor([[0.2, 0.9]], dtype=torch.float64))
    np.testing.assert_array_equal(found, stats.poisson([1.0, 30.0]).ppf([[0.2, 0.9]]))


def test_a_multivariate_normal_goes_through_its_cholesky_factor():
    covariance = torch.tensor([[2.0, 0.6], [0.6, 1.0]], dtype=torch.float64)
    q = dist.MultivariateNormal(torch.tensor([1.0, -1.0], dtype=torch.float64), covariance)
    source = DistributionSource(q)
    assert (source.num_uniforms, source.size_hint) == (2, 2)
    normal = torch.tensor([[0.5, -2.0], [1.0, 0.0]], dtype=torch.float64)
    wanted = q.loc + normal @ torch.linalg.cholesky(covariance).mT
    torch.testing.assert_close(source.from_normal(normal), wanted, rtol=1e-12, atol=0.0)
    torch.testing.assert_close(source.from_uniform(torch.special.ndtr(normal)), wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_batches_are_independent_parts_of_one_draw(dtype):
    q = dist.Independent(dist.Normal(torch.zeros(2, 3, dtype=dtype), torch.ones(3, dtype=dtype)), 1)
    source = DistributionSource(q)
    assert source.num_uniforms == 6
    with seeded():
        draws = source.draw(5)
        assert draws.dtype == source.from_normal(torch.randn(5, 6, dtype=source.dtype)).dtype == dtype
    assert draws.shape == (5, 2, 3)
    torch.testing.assert_close(source.log_prob(draws), q.log_prob(draws).sum(-1))


@pytest.mark.parametrize(
    "q",
    [
        dist.Dirichlet(torch.ones(3)),
        dist.MixtureSameFamily(dist.Categorical(torch.ones(2)), dist.Normal(torch.zeros(2), torch.ones(2))),
    ],
)
def test_distributions_without_an_inverse_say_so(q):
    source = DistributionSource(q)
    assert source.num_uniforms is None
    with pytest.raises(OptionError, match=f"draws of {type(q).__name__} are no known function of uniform numbers"):
        source.from_uniform(torch.full((3, 3), 0.5))


def test_what_cannot_be_drawn_from():
    with pytest.raises(DataError, match="ImproperUniform cannot be drawn from"):
        DistributionSource(pyro_dist.ImproperUniform(dist.constraints.real, (), ()))
