"""Batch and match: closed-form updates against the equations they solve, exactness on normals, honest ends."""

import numpy as np
import pytest
import torch

import ppl_models as ppl
from ppl_models.errors import GuideError, OptionError
from ppl_models.inference.methods import Normal
from ppl_models.inference.methods.batch_and_match import BATCH_AND_MATCH
from ppl_models.inference.methods.matching import matched
from tests import closed_forms
from tests.inference.methods import densities
from tests.inference.methods.doubles import Double, run

EXACT = 1e-6


def batch(dim, count, seed=0):
    rng = np.random.default_rng(seed)
    root = np.linalg.cholesky(np.atleast_2d(np.cov(rng.standard_normal((dim, 5 * dim)))))
    points, scores = rng.standard_normal((2, count, dim))
    return Normal(rng.standard_normal(dim), root, -np.inf, 0), points, scores


@pytest.mark.parametrize("strength", [0.1, 1.0, 300.0])
@pytest.mark.parametrize(("dim", "count"), [(1, 5), (4, 3), (6, 40)])
def test_an_update_solves_the_paper_s_equations(dim, count, strength):
    normal, points, scores = batch(dim, count)
    found = matched(normal, points, scores, strength)
    covariance, share = found.root @ found.root.T, strength / (1.0 + strength)
    middle, pull = points.mean(axis=0), scores.mean(axis=0)
    spread, bend = (np.atleast_2d(np.cov(values.T, bias=True)) for values in (points, scores))
    away = normal.mean - middle
    u = strength * bend + share * np.outer(pull, pull)
    v = normal.root @ normal.root.T + strength * spread + share * np.outer(away, away)
    np.testing.assert_allclose(covariance @ u @ covariance + covariance, v, rtol=1e-9, atol=1e-9)
    mean = normal.mean / (1.0 + strength) + share * (covariance @ pull + middle)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-10)


def test_the_limit_of_an_update_is_the_target_itself():
    _, mean, root = densities.normal(5, 1e4)
    normal, points, _ = batch(5, 12)
    scores = -np.linalg.solve(root @ root.T, (points - mean).T).T
    assert max(densities.errors(matched(normal, points, scores, np.inf), mean, root)) < EXACT


@pytest.mark.parametrize("condition", [1.0, 1e6])
@pytest.mark.parametrize("dim", [1, 2, 20, 100])
def test_normal_targets_are_exact(dim, condition):
    target, mean, root = densities.normal(dim, condition)
    found = run(target, BATCH_AND_MATCH)
    assert found.status == "converged"
    assert found.arrival.arrived
    assert max(densities.errors(found.approximation, mean, root)) < EXACT


def test_it_does_not_depend_on_the_latents_scales():
    target, mean, root = densities.unscaled()
    found = run(target, BATCH_AND_MATCH)
    assert found.status == "converged"
    assert max(densities.errors(found.approximation, mean, root)) < EXACT


def test_where_it_comes_to_rest_the_scores_match():
    """At the best normal E[score] is 0 and E[score score'] the precision; checked on new draws, within their error."""
    shape = torch.tensor([3.0, 8.0, 30.0], dtype=torch.float64)
    target = Double(lambda x: (shape * x - torch.exp(x)).sum(1), 3)
    found = run(target, BATCH_AND_MATCH, batch_size=2_000)
    assert found.status == "converged"
    normal = found.approximation
    noise = np.random.default_rng(9).standard_normal((20_000, 3))
    own = target(normal.mean + noise @ normal.root.T)[1] @ normal.root
    products = np.einsum("ni,nj->nij", own, own) - np.eye(3)
    fitted = found.evidence["pool_draws"]
    for terms in (own, products.reshape(-1, 9)):
        error = terms.std(axis=0) * np.sqrt(1.0 / len(noise) + 1.0 / fitted)
        assert (np.abs(terms.mean(axis=0)) < 4.5 * error).all()


@pytest.mark.parametrize("name", ["a flat latent", "a flat sum", "rising for ever", "bent upwards"])
def test_improper_posteriors_are_no_convergence_and_named(name):
    dim, density, latent = densities.IMPROPER[name]
    found = run(Double(density, dim), BATCH_AND_MATCH)
    assert found.status == "diverged"
    assert f"'{latent}'" in found.note
    assert np.isfinite(found.approximation.root).all()


@pytest.mark.parametrize("density", [densities.banana, densities.funnel, densities.no_mode])
def test_targets_far_from_normal_end_finite_and_are_not_said_to_have_converged(density):
    found = run(Double(density, 9 if density is not densities.banana else 2), BATCH_AND_MATCH)
    assert found.status != "converged"
    assert np.isfinite(found.approximation.elbo)


def test_a_wall_of_no_density_is_survived():
    wall = lambda x: torch.where((x < 2.0).all(1), -0.5 * (x + 1.0).square().sum(1), torch.nan)  # noqa: E731
    found = run(Double(wall, 2), BATCH_AND_MATCH)
    assert np.isfinite(found.approximation.mean).all()


def test_the_seed_alone_decides():
    target = Double(densities.banana, 2)
    first, again, other = (run(target, BATCH_AND_MATCH, max_steps=10, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.approximation.root, again.approximation.root)
    assert not np.array_equal(first.approximation.root, other.approximation.root)


def test_limits_are_obeyed():
    target = Double(densities.banana, 2)
    assert run(target, BATCH_AND_MATCH, max_steps=3).status == "max_steps"
    assert run(target, BATCH_AND_MATCH, seconds=-1.0).status == "out_of_time"


def test_mistakes_are_named():
    with pytest.raises(GuideError, match=r"501 latents.*'low_rank'"):
        run(Double(lambda x: -x.square().sum(1), 501), BATCH_AND_MATCH)
    with pytest.raises(OptionError, match="batch_size"):
        run(Double(densities.banana, 2), BATCH_AND_MATCH, batch_size=0)


def test_a_pyro_model_s_posterior_is_exact():
    fit = ppl.fit(closed_forms.regression, closed_forms.DATA, guide="batch_and_match", seed=1)
    assert fit.status == "converged"
    np.testing.assert_allclose(fit.guide.loc.detach(), closed_forms.MEAN, rtol=1e-6)
    root = (fit.guide.scale[:, None] * fit.guide.scale_tril).detach()
    np.testing.assert_allclose(root @ root.mT, closed_forms.COVARIANCE, rtol=1e-6)
