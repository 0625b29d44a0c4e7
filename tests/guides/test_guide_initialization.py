import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.distributions.transforms import OrderedTransform
from torch.distributions import constraints

import guides


def site_of(prior):
    return {"name": "z", "fn": prior}


@pytest.mark.parametrize(
    "prior",
    [
        dist.Normal(3.0, 1.0),
        dist.HalfCauchy(1.0).expand([4]).to_event(1),
        dist.Dirichlet(torch.ones(3)),
        dist.LKJCholesky(3, 1.0),
        dist.Beta(0.5, 0.5),
        dist.InverseGamma(0.1, 0.1),
        dist.TransformedDistribution(dist.Normal(torch.zeros(3), 1.0).to_event(1), [OrderedTransform()]),
        dist.MultivariateNormal(torch.zeros(2), torch.eye(2)).expand([5]),
        dist.Normal(0.0, 1.0).mask(False),
    ],
    ids=lambda prior: type(prior).__name__,
)
def test_start_is_inside_the_support_and_of_the_right_shape(prior):
    value = guides.init_to_prior_median(site_of(prior))
    assert value.shape == prior.shape()
    assert prior.support.check(value).all()


def test_start_is_the_median_of_the_draws():
    prior = dist.LogNormal(1.0, 2.0)
    torch.manual_seed(3)
    value = guides.init_to_prior_median(site_of(prior))
    torch.manual_seed(3)
    torch.testing.assert_close(value, prior.sample((15,)).median())


def test_vectors_start_near_their_prior_and_not_at_the_image_of_zero():
    prior = dist.Normal(torch.full((3,), 50.0), 1.0).to_event(1)
    assert (guides.init_to_prior_median(site_of(prior)) > 45.0).all()


@pytest.mark.parametrize(
    ("support", "event_dim", "shape"),
    [(constraints.real, 0, ()), (constraints.positive, 0, (3,))],
    ids=["real", "positive"],
)
def test_improper_priors_start_at_the_image_of_zero(support, event_dim, shape):
    prior = dist.ImproperUniform(support, shape, ())
    value = guides.init_to_prior_median(site_of(prior))
    assert value.shape == shape
    assert support.check(value).all()


@pytest.mark.parametrize("name", guides.names())
def test_families_accept_improper_priors(name):
    def model(y):
        scale = pyro.sample("scale", dist.ImproperUniform(constraints.positive, (), ()))
        with pyro.plate("row", len(y)):
            pyro.sample("y", dist.Normal(0.0, scale), obs=y)

    guide = guides.make(name, model)
    y = torch.tensor([0.3, -0.2])
    guide(y)
    assert poutine.trace(guide).get_trace(y).nodes["scale"]["value"] > 0
