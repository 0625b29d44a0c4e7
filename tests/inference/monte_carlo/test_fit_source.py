"""A fit as the source of an expectation: its guide's draws, by noise too, its density, and its weights."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from closed_forms import COVARIANCE, DATA, MEAN, SD, regression

import ppl_models as ppl
from ppl_models.errors import OptionError
from ppl_models.inference.draws import latent_draws
from ppl_models.inference.monte_carlo.fit_source import FitSource
from ppl_models.inference.monte_carlo.self_normalised import SelfNormalised
from ppl_models.program import isolated
from ppl_models.workflow.expecting import expect


def shifted(x, y=None):
    """The posterior moved by 0.3 sd in one weight."""
    pyro.sample("weights", dist.MultivariateNormal(MEAN + torch.tensor([0.3, 0.0]) * SD, COVARIANCE))


def model(y=None):
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    scale = pyro.sample("scale", dist.HalfNormal(1.0))
    pyro.deterministic("ratio", mu / scale)
    with pyro.plate("row", 5):
        return pyro.sample("y", dist.Normal(mu, scale), obs=y)


@pytest.fixture(scope="module")
def fits():
    y = torch.tensor([0.3, 1.0, -0.5, 0.2, 0.9])
    families = ("normal", "full_rank", "low_rank", "student_t", "delta")
    return {
        name: ppl.fit(model, {"y": y}, guide=name, max_steps=3, seed=1, backend="eager", precondition=False)
        for name in families
    }


@pytest.fixture(scope="module")
def moved():
    return ppl.fit(regression, DATA, guide=shifted, max_steps=1, backend="eager", precondition=False, seed=1)


def test_draws_hold_latents_and_deterministics_and_differ_from_call_to_call(fits):
    source = FitSource(fits["normal"])
    with isolated(seed=1):
        draws, others = source.draw(50), source.draw(50)
    assert set(draws) == {"mu", "scale", "ratio"}
    torch.testing.assert_close(draws["ratio"], draws["mu"] / draws["scale"])
    assert not torch.equal(draws["mu"], others["mu"])


@pytest.mark.parametrize("name", ["normal", "full_rank", "low_rank"])
def test_draws_from_noise_are_the_guides(fits, name):
    """The same moments in unconstrained coordinates as the guide's own draws."""
    source, num_draws = FitSource(fits[name]), 6_000
    assert source.num_uniforms == (3 if name == "low_rank" else 2)
    with isolated(seed=2):
        by_noise = source.from_normal(torch.randn(num_draws, source.num_uniforms, dtype=torch.float64))
        own = source.draw(num_draws)
    for change in (lambda d: d["mu"], lambda d: d["scale"].log(), lambda d: d["mu"] * d["scale"].log()):
        first, second = change(by_noise), change(own)
        error = ((first.var() + second.var()) / num_draws).sqrt()
        assert abs(float(first.mean() - second.mean())) < 4.5 * float(error)
    torch.testing.assert_close(by_noise["ratio"], by_noise["mu"] / by_noise["scale"])


def test_uniform_numbers_pass_through_the_normal_cdf(fits):
    source = FitSource(fits["full_rank"])
    noise = torch.tensor([[0.3, -1.2], [2.0, 0.1]], dtype=torch.float64)
    found, wanted = source.from_uniform(torch.special.ndtr(noise)), source.from_normal(noise)
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name])


def test_guides_that_are_not_normal_say_so(fits):
    source = FitSource(fits["student_t"])
    assert source.num_uniforms is None
    with pytest.raises(OptionError, match="full_rank"):
        source.from_uniform(torch.full((3, 2), 0.3))


@pytest.mark.parametrize("name", ["normal", "full_rank", "student_t"])
def test_the_density_at_given_points_is_the_guides(fits, name):
    fit = fits[name]
    with fit.program.isolated(seed=3):
        values, log_q = latent_draws(fit.program, fit.guide, 6)
    torch.testing.assert_close(FitSource(fit).log_prob(values), log_q, rtol=1e-9, atol=1e-9)


def test_self_normalised_weights_correct_a_guide_with_a_wrong_mean(moved):
    def first(draws):
        return draws["weights"][:, 0]

    raw = expect(first, moved, 4_000, seed=1)
    corrected = expect(first, moved, 4_000, method="self_normalised", seed=1)
    assert abs(raw.estimate - float(MEAN[0]) - 0.3 * float(SD[0])) < 4.0 * raw.standard_error
    assert abs(corrected.estimate - float(MEAN[0])) < 4.0 * corrected.standard_error
    assert corrected.passed
    np.testing.assert_allclose(corrected.evidence["khat_weights"], corrected.evidence["khat_weights"])


def test_a_guide_without_density_cannot_be_weighted(fits):
    with pytest.raises(OptionError, match="no density"):
        expect(lambda d: d["mu"], fits["delta"], method="self_normalised")
    with pytest.raises(OptionError, match="the guide is the proposal"):
        SelfNormalised(dist.Normal(0.0, 1.0)).start(None, FitSource(fits["normal"]), 0)  # pyright: ignore
