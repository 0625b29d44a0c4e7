"""Estimators of the ELBO's gradient on a normal target, where it is known in closed form."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from closed_forms import COVARIANCE, DATA, EVIDENCE, MEAN, PRECISION, regression
from torch.distributions import constraints

import guides as families
from guides.full_rank import RememberedNormal
from ppl_models.program.estimators import (
    DoublyReparameterised,
    Entropy,
    ImportanceWeighted,
    Renyi,
    Score,
    StickingTheLanding,
    Total,
)
from program.estimators.noise import Z, errors_apart, errors_from, gradients_of

LOCATION, LOG_SCALE = torch.tensor([0.3, -0.2], dtype=torch.float64), torch.tensor([-0.9, -0.1], dtype=torch.float64)
COUNT = 4_000
SAME_BOUND = [
    Total(),
    StickingTheLanding(),
    Entropy(),
    Score(),
    ImportanceWeighted(1),
    DoublyReparameterised(1),
    Renyi(1.0, 1),
    Renyi(1.0, 4),
]


def mean_field(x, y=None):
    location = pyro.param("location", LOCATION.clone())
    log_scale = pyro.param("log_scale", LOG_SCALE.clone())
    return pyro.sample("weights", dist.Normal(location, log_scale.exp()).to_event(1))


def posterior(x, y=None, kind=RememberedNormal):
    location = pyro.param("location", MEAN.clone())
    tril = pyro.param("tril", torch.linalg.cholesky(COVARIANCE), constraint=constraints.lower_cholesky)
    return pyro.sample("weights", kind(location, scale_tril=tril))


def exact_loss_and_gradient():
    """The ELBO is the log evidence less KL(q || p); both are normal."""
    variance, away = (2.0 * LOG_SCALE).exp(), LOCATION - MEAN
    divergence = 0.5 * (
        (PRECISION.diagonal() * variance).sum()
        + away @ PRECISION @ away
        - 2.0
        - torch.logdet(PRECISION)
        - variance.log().sum()
    )
    gradient = torch.cat([PRECISION @ away, PRECISION.diagonal() * variance - 1.0])
    return float(divergence) - EVIDENCE, gradient.numpy()


@pytest.mark.statistical
@pytest.mark.parametrize("estimator", SAME_BOUND, ids=lambda one: f"{one.name} {one.options}")
def test_mean_loss_and_gradient_are_exact(estimator):
    losses, gradients = gradients_of(regression, DATA, mean_field, estimator, particles=4, count=COUNT)
    loss, gradient = exact_loss_and_gradient()
    assert errors_from(losses, loss) < Z
    assert (errors_from(gradients, gradient) < Z).all()


@pytest.mark.statistical
def test_an_entropy_left_out_is_noticed():
    _, gradients = gradients_of(regression, DATA, mean_field, Total(), particles=4, count=COUNT)
    _, gradient = exact_loss_and_gradient()
    assert errors_from(gradients, gradient + np.array([0.0, 0.0, 1.0, 1.0])).max() > Z


def test_losses_are_the_same_estimate():
    found = [
        gradients_of(regression, DATA, mean_field, one, particles=4, count=10)[0]
        for one in (Total(), StickingTheLanding(), Score())
    ]
    np.testing.assert_allclose(found[1], found[0], rtol=1e-10)
    np.testing.assert_allclose(found[2], found[0], rtol=1e-10)


@pytest.mark.parametrize("kind", [RememberedNormal, dist.MultivariateNormal])
@pytest.mark.parametrize("estimator", [StickingTheLanding(), DoublyReparameterised(4)], ids=lambda one: one.name)
def test_at_the_posterior_the_gradient_without_the_score_is_zero_at_every_draw(kind, estimator):
    guide = lambda x, y=None: posterior(x, y, kind)  # noqa: E731
    losses, gradients = gradients_of(regression, DATA, guide, estimator, particles=4, count=50)
    _, noisy = gradients_of(regression, DATA, guide, Total(), particles=4, count=50)
    np.testing.assert_allclose(-losses, EVIDENCE, rtol=1e-10)
    assert np.abs(gradients).max() < 1e-10
    assert np.abs(noisy).max(axis=1).min() > 1e-3


def hierarchical(y):
    """Latents with bounds, inside a plate and outside."""
    scale = pyro.sample("scale", dist.Gamma(2.0, 1.0))
    with pyro.plate("row", len(y)):
        share = pyro.sample("share", dist.Beta(2.0, 3.0))
        pyro.sample("y", dist.Normal(scale * share, 0.5), obs=y)


ROWS = (torch.tensor([0.2, 0.7, 1.4], dtype=torch.float64),)


@pytest.mark.statistical
@pytest.mark.parametrize("family", ["normal", "full_rank", "low_rank", "structured"])
def test_entropy_in_closed_form_keeps_the_jacobians_of_constrained_latents(family):
    def make(estimator, seed):
        return gradients_of(hierarchical, ROWS, Started(family), estimator, particles=4, count=COUNT, seed=seed)

    losses, gradients = make(Entropy(), 0)
    others, slopes = make(Total(), 1)
    assert errors_apart(losses, others) < Z
    assert (errors_apart(gradients, slopes) < Z).all()


@pytest.mark.statistical
@pytest.mark.parametrize("family", ["normal", "full_rank", "low_rank", "iaf"])
def test_the_score_has_mean_zero_for_constrained_latents(family):
    losses, gradients = gradients_of(
        hierarchical, ROWS, Started(family), StickingTheLanding(), particles=4, count=COUNT, seed=0
    )
    others, slopes = gradients_of(hierarchical, ROWS, Started(family), Total(), particles=4, count=COUNT, seed=1)
    assert errors_apart(losses, others) < Z
    assert (errors_apart(gradients, slopes) < Z).all()


class Started:
    """An automatic guide that starts at the same place whatever was drawn before."""

    def __init__(self, family):
        self.guide = families.make(family, hierarchical, init_scale=0.5)

    def __call__(self, *args):
        if self.guide.prototype_trace is None:
            pyro.set_rng_seed(3)
        return self.guide(*args)


def two_modes():
    return pyro.sample("z", OfMixture(WEIGHTS, PLACES, SCALES, 0))


WEIGHTS = torch.tensor([0.3, 0.7], dtype=torch.float64)
PLACES = torch.tensor([-1.0, 1.5], dtype=torch.float64)
SCALES = torch.tensor([0.5, 0.8], dtype=torch.float64)


class Stratified:
    """A mixture of two normals that draws each component apart."""

    def __init__(self, weights=WEIGHTS, places=PLACES):
        self.weights, self.places = weights, places

    def parts(self):
        weights = pyro.param("logits", self.weights.log().clone()).softmax(-1)
        return weights, pyro.param("places", self.places.clone()), pyro.param("log_scales", SCALES.log().clone()).exp()

    def __call__(self):
        weights, places, scales = self.parts()
        return pyro.sample("z", dist.MixtureSameFamily(dist.Categorical(weights), dist.Normal(places, scales)))

    def strata(self):
        def stratum(number):
            def guide():
                weights, places, scales = self.parts()
                return pyro.sample("z", OfMixture(weights, places, scales, number))

            return guide

        weights, _, _ = self.parts()
        return [(weight, stratum(number)) for number, weight in enumerate(weights.unbind())]


class OfMixture(dist.Normal):
    """Draws of one component with the density of all."""

    def __init__(self, weights, places, scales, number):
        super().__init__(places[number], scales[number])
        self.all = weights, places, scales

    def log_prob(self, value):
        weights, places, scales = self.all
        away = (value[..., None] - places) / scales
        each = weights.log() - 0.5 * away.square() - scales.log() - 0.5 * math.log(2.0 * math.pi)
        return each.logsumexp(-1)


def test_stratified_guide_at_the_posterior_has_no_noise():
    for estimator, quiet in ((StickingTheLanding(), True), (Total(), False)):
        losses, gradients = gradients_of(two_modes, (), Stratified(), estimator, particles=3, count=20)
        np.testing.assert_allclose(losses, 0.0, atol=1e-10)
        assert (np.abs(gradients).max() < 1e-10) == quiet


@pytest.mark.statistical
def test_stratified_guide_keeps_the_gradient_of_its_weights():
    guide = Stratified(torch.tensor([0.6, 0.4], dtype=torch.float64), torch.tensor([-0.6, 1.1], dtype=torch.float64))
    found = [
        gradients_of(two_modes, (), guide, one, particles=2, count=COUNT, seed=seed)
        for seed, one in enumerate((StickingTheLanding(), Total()))
    ]
    assert (errors_apart(found[0][1], found[1][1]) < Z).all()
    assert errors_from(found[0][1][:, 0], 0.0) > 10.0
