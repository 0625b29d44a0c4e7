"""Pools of proposals: what other starts have found, and a guide has not."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import ppl_models as ppl
from ppl_models.workflow.measuring import Flat, Measured
from ppl_models.workflow.probing import probe


def two_modes(y=4.0):
    x = pyro.sample("x", dist.Normal(0.0, 3.0))
    pyro.sample("y", dist.Normal(x**2, 1.0), obs=torch.tensor(y))


def right_mode_only(y=4.0):
    pyro.sample("x", dist.Normal(2.0, 0.26))


def both_modes(y=4.0):
    modes = dist.Normal(torch.tensor([-2.0, 2.0]), 0.26)
    pyro.sample("x", dist.MixtureSameFamily(dist.Categorical(torch.ones(2)), modes))


def scaled(rows=3):
    with pyro.plate("row", rows):
        size = pyro.sample("size", dist.LogNormal(0.0, 1.0))
    share = pyro.sample("share", dist.Beta(2.0, 3.0))
    place = pyro.sample("place", dist.Normal(0.0, 1.0))
    pyro.deterministic("total", size.sum() + share + place)


def fit_of(model, guide):
    return ppl.fit(model, {}, guide=guide, max_steps=150, backend="eager", seed=1)


def checks_of(verdict):
    return {check.name: check for check in verdict.checks}


def test_missed_mode_is_seen_without_a_baseline():
    judged = ppl.check(fit_of(two_modes, right_mode_only), seed=3)
    checks = checks_of(judged)
    assert checks["k-hat"].passed is True, "the guide's own weights cannot see the mode"
    assert checks["other starts"].passed is False
    assert judged.verdict == "reject"


def test_guide_with_both_modes_is_trusted():
    judged = ppl.check(fit_of(two_modes, both_modes), seed=3)
    assert checks_of(judged)["other starts"].passed is True
    assert judged.verdict == "trust", judged


def test_pool_of_a_guide_without_a_density_at_given_points():
    """An autoguide along the graph: t's with the moments of its draws take its place."""
    fit = ppl.fit(scaled, {}, guide="structured", max_steps=300, backend="eager", seed=1)
    judged = ppl.check(fit, seed=1)
    assert judged.reference == "pool"
    assert judged.verdict in ("trust", "correct")
    # the distance of exact samples is small beside the limit, whatever far draws the pool holds
    assert (judged.table["wasserstein_null_sd"] < 0.1).all()


def test_seed_and_state():
    fit = fit_of(two_modes, both_modes)
    measured = Measured.of(fit, 10_000, 0)
    flat = Flat.of(measured)
    before = torch.get_rng_state()
    first, again = (probe(measured, flat, weighable=True, seed=4) for _ in range(2))
    np.testing.assert_array_equal(first.pool.log_weights, again.pool.log_weights)
    assert torch.equal(before, torch.get_rng_state())
    assert not dict(pyro.get_param_store().items())


def test_pooled_moments_are_those_of_the_posterior():
    """By quadrature, though the guide sits on one mode; the errors are the pool's own."""
    fit = fit_of(two_modes, right_mode_only)
    measured = Measured.of(fit, 10_000, 0)
    pool = probe(measured, Flat.of(measured), weighable=True, seed=4).pool
    grid = np.linspace(-8.0, 8.0, 20_001)
    density = np.exp(-0.5 * (grid / 3.0) ** 2 - 0.5 * (4.0 - grid**2) ** 2)
    density /= density.sum()
    sd = np.sqrt((density * grid**2).sum())
    assert abs(pool.moments.mean[0]) < 4 * pool.moments.mean_error[0] * sd
    assert abs(np.log(pool.moments.sd[0] / sd)) < 4 * pool.moments.log_sd_error[0]


def test_flat_draws_and_their_labels():
    fit = ppl.fit(scaled, {}, guide="normal", max_steps=20, backend="eager", seed=1, coords={"row": ["a", "b", "c"]})
    measured = Measured.of(fit, 10_000, 0)
    flat = Flat.of(measured)
    assert flat.labels == ("log(size[a])", "log(size[b])", "log(size[c])", "logit(share)", "place")
    draws = measured.draws
    np.testing.assert_allclose(flat.points[:, 1], np.log(draws["size"].to_numpy()[0, :, 1]), rtol=1e-10)
    np.testing.assert_allclose(flat.points[:, 4], draws["place"].to_numpy()[0], rtol=1e-12)
    points, scores = flat.scores(50)
    # the prior is the posterior: log normal in the first, normal in the last coordinate
    np.testing.assert_allclose(scores[:, 1], -points[:, 1], rtol=1e-8)
    np.testing.assert_allclose(scores[:, 4], -points[:, 4], rtol=1e-8)


@pytest.mark.parametrize("name", ["MOST_LATENTS"])
def test_too_many_latents_are_said(monkeypatch, name):
    from ppl_models.workflow import probing

    monkeypatch.setattr(probing, name, 0)
    checks = checks_of(ppl.check(fit_of(two_modes, right_mode_only), seed=3))
    assert checks["other starts"].passed is None
    assert "at most 0" in checks["other starts"].detail


def two_sided():
    x = pyro.sample("x", dist.Normal(0.0, 1.0).mask(False))
    right = torch.where(x > 0, -x, torch.full_like(x, -torch.inf)) + np.log(0.5)
    left = dist.Normal(-8.0, 1.0).log_prob(x) + np.log(0.5)
    pyro.factor("density", torch.stack([right, left]).logsumexp(0))


def right_side():
    pyro.sample("x", dist.Exponential(1.0))


def test_guide_has_no_density_outside_of_its_support():
    """An exponential's formula is large on the wrong side of zero, and would weigh the other mode away there."""
    judged = ppl.check(fit_of(two_sided, right_side), seed=1)
    assert judged.verdict == "reject"
    assert abs(np.exp(judged.table["log_sd_ratio"].iloc[0]) - 1 / np.sqrt(1 + 4.5**2)) < 0.05


def test_narrow_combination_is_judged():
    """Right marginals; the difference of two parameters is five times too wide."""

    def pair(correlation):
        matrix = torch.tensor([[1.0, correlation], [correlation, 1.0]])
        return lambda: pyro.sample("x", dist.MultivariateNormal(torch.zeros(2), matrix))

    judged = ppl.check(fit_of(pair(0.999), pair(0.975)), seed=1)
    assert checks_of(judged)["joint"].passed is False
    assert judged.verdict != "trust"


def test_one_batch_says_nothing_of_the_posterior_given_all():
    from torch.utils.data import DataLoader, TensorDataset

    def mean_of(y):
        m = pyro.sample("m", dist.Normal(0.0, 10.0))
        with pyro.plate("row", 400, subsample_size=len(y)):
            pyro.sample("y", dist.Normal(m, 1.0), obs=y)

    loader = DataLoader(TensorDataset(torch.randn(400, generator=torch.Generator().manual_seed(0))), batch_size=40)
    judged = ppl.check(ppl.fit(mean_of, loader, guide="normal", max_steps=50, backend="eager", seed=1))
    assert np.isnan(judged.khat)
    assert "one says nothing of the posterior given all" in " ".join(judged.reasons)
