"""Guides as distributions over the flat vector: densities at given points against the guides' own traces."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy.stats import multivariate_t

import ppl_models as ppl
from ppl_models.engine import Target
from ppl_models.inference.flat_guide import FlatGuide
from ppl_models.inference.methods.approximations import Mixture, Normal
from ppl_models.inference.proposal import proposal_of
from ppl_models.inference.sitewise_guide import SitewiseGuide
from ppl_models.inference.t_mixture import TMixture


def model(y):
    scale = pyro.sample("scale", dist.HalfCauchy(1.0))
    weights = pyro.sample("weights", dist.Dirichlet(torch.ones(3)))
    with pyro.plate("row", len(y)):
        mean = pyro.sample("mean", dist.Normal(weights[0], 1.0))
        pyro.sample("y", dist.Normal(mean, scale), obs=y)


def handwritten(y):
    pyro.sample("weights", dist.Dirichlet(torch.tensor([2.0, 3.0, 4.0])))
    scale = pyro.sample("scale", dist.LogNormal(0.0, 0.5))
    with pyro.plate("row", len(y)):
        pyro.sample("mean", dist.Normal(y, scale))


def with_auxiliary(y):
    both = pyro.sample("both", dist.Normal(torch.zeros(2), 1.0).to_event(1), infer={"is_auxiliary": True})
    pyro.sample("scale", dist.Delta(both[0].exp()))
    pyro.sample("weights", dist.Dirichlet(torch.ones(3)))
    with pyro.plate("row", len(y)):
        pyro.sample("mean", dist.Normal(both[1], 1.0))


DATA = {"y": torch.tensor([0.5, 1.0, 2.5])}


def fitted(guide):
    return ppl.fit(model, DATA, guide=guide, max_steps=20, backend="eager", seed=1)


@pytest.mark.parametrize("guide", ["normal", "student_t", handwritten], ids=["normal", "student_t", "handwritten"])
def test_density_of_a_guide_with_sites_is_that_of_its_trace(guide):
    fit = fitted(guide)
    proposal = proposal_of(fit)
    assert isinstance(proposal, SitewiseGuide)
    values, log_q = fit._latent_draws(6, 5)
    with fit.program.isolated(seed=0):
        points = torch.stack([fit.program.unconstrain({k: v[i] for k, v in values.items()}) for i in range(6)])
        joint = torch.stack([fit.program.log_joint({k: v[i] for k, v in values.items()}) for i in range(6)])
        log_p, _ = Target(fit.program)(points.numpy())
    # both densities change by the same Jacobian
    np.testing.assert_allclose(log_p - proposal.log_prob(points.numpy()), (joint - log_q).numpy(), rtol=1e-9)


def test_density_integrates_to_one():
    """Self-normalised weights of a t that covers it: the mean ratio of densities is one within its error."""
    proposal = proposal_of(fitted(handwritten))
    cover = TMixture.around(proposal.draw(4_000, seed=1))
    points = cover.draw(20_000, seed=2)
    ratio = np.exp(proposal.log_prob(points) - cover.log_prob(points))
    assert abs(ratio.mean() - 1.0) < 4 * ratio.std() / np.sqrt(len(ratio))


def test_guides_of_one_vector_keep_their_own_density_and_others_have_none():
    assert isinstance(proposal_of(fitted("full_rank")), FlatGuide)
    assert proposal_of(fitted("delta")) is None
    assert proposal_of(fitted(with_auxiliary)) is None


def test_t_mixture_against_scipy():
    rng = np.random.default_rng(0)
    root = np.tril(rng.standard_normal((3, 3))) + 2 * np.eye(3)
    means = rng.standard_normal((2, 3))
    normals = tuple(Normal(mean, root, -np.inf, 0) for mean in means)
    mixture = TMixture.of(Mixture(np.array([0.3, 0.7]), normals))
    points = rng.standard_normal((5, 3))
    wanted = sum(
        weight * multivariate_t(mean, root @ root.T, df=mixture.df).pdf(points)
        for weight, mean in zip((0.3, 0.7), means, strict=True)
    )
    np.testing.assert_allclose(np.exp(mixture.log_prob(points)), wanted, rtol=1e-10)


def test_t_around_points_has_their_mean_and_scale():
    rng = np.random.default_rng(1)
    points = rng.standard_normal((2_000, 2)) @ np.array([[1.0, 0.9], [0.0, 0.2]]) * 1e5
    around = TMixture.around(points)
    drawn = around.draw(20_000, seed=3)
    # the median of a t is its location; its error is that of a median of so many draws, at most 1.4 sd / sqrt(n)
    assert (np.abs(np.median(drawn, axis=0) - points.mean(axis=0)) < 4 * 1.4 * points.std(axis=0) / 141).all()
    correlation = np.corrcoef(points.T)[0, 1]
    np.testing.assert_allclose(around.normals[0].root @ around.normals[0].root.T, np.cov(points.T, ddof=0), rtol=1e-6)
    assert correlation > 0.9
