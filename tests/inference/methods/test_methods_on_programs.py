"""The methods on fixed draws and with particles, on Pyro models, through `ppl_models.fit`."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import ppl_models as ppl
from ppl_models.errors import OptionError
from tests.closed_forms import COVARIANCE, DATA, EVIDENCE, MEAN, MEAN_FIELD_GAP, MEAN_FIELD_SD, regression

METHODS = pytest.mark.parametrize("name", ["dadvi", "linear_response", "svgd"])


def flat_in_shift(y):
    """The slope has a prior and data; the shift has neither."""
    slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
    pyro.sample("shift", dist.Normal(torch.zeros(2), 1.0).mask(False).to_event(1))
    with pyro.plate("row", len(y)):
        pyro.sample("y", dist.Normal(slope, 1.0), obs=y)


def test_dadvi_gives_its_optimum_to_the_guide():
    fit = ppl.fit(regression, DATA, guide="dadvi", seed=1)
    assert (fit.method, fit.family, fit.status) == ("dadvi", "normal", "converged")
    found = {name.rsplit(".", 1)[0].rsplit(".", 1)[-1]: value for name, value in fit.parameters.items()}
    torch.testing.assert_close(found["locs"], MEAN, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found["scales"], MEAN_FIELD_SD, rtol=1e-6, atol=0.0)
    assert abs(fit.evidence["elbo"] - (EVIDENCE - MEAN_FIELD_GAP)) < 1e-6
    assert fit.evidence["draw_error_of_mean"]["weights"] < 1e-6


def test_linear_response_gives_the_exact_normal_to_the_guide():
    fit = ppl.fit(regression, DATA, guide="full_rank", method="linear_response", seed=1)
    assert (fit.method, fit.family, fit.status) == ("linear_response", "full_rank", "converged")
    # the normal is the posterior: its weights are all the same
    np.testing.assert_allclose(fit.log_ratio(100), EVIDENCE, atol=1e-5)


def test_svgd_gives_its_particles_to_the_guide():
    fit = ppl.fit(regression, DATA, guide="particles", method_options={"num_particles": 100}, seed=1)
    assert (fit.method, fit.family, fit.status) == ("svgd", "particles", "converged")
    (points,) = fit.parameters.values()
    assert points.shape == (100, 2)
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(COVARIANCE), (points - MEAN).T, upper=False)
    # a third of the standard errors of as many independent draws
    assert white.mean(dim=1).abs().max() < 1.0 / 30.0
    assert white.std(dim=1, correction=0).log().abs().max() < 1.0 / np.sqrt(200.0) / 3.0
    assert np.isnan(fit.elbo()).all()


@METHODS
def test_a_latent_without_a_scale_is_named(name):
    fit = ppl.fit(flat_in_shift, {"y": torch.tensor([0.3, 0.4])}, guide=name, seed=1)
    assert fit.status == "diverged"
    assert "no scale along 'shift'" in fit.note
    assert ppl.check(fit).verdict == "reject"


@METHODS
def test_same_seed_same_parameters(name):
    one, two = (ppl.fit(regression, DATA, guide=name, seed=4).parameters for _ in range(2))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_dense_normals_on_fixed_draws_are_not_offered():
    with pytest.raises(OptionError, match="'dadvi' fits the family 'normal', found guide 'full_rank'"):
        ppl.fit(regression, DATA, guide="full_rank", method="dadvi")


@pytest.fixture(scope="module")
def baseline():
    return ppl.sample(regression, DATA, warmup=300, seed=3)


def test_check_says_that_particles_have_no_density_and_takes_a_baseline(baseline):
    fit = ppl.fit(regression, DATA, guide="svgd", seed=1)
    alone = ppl.check(fit)
    # no weights of its own: a pool of other proposals vouches for the marginals
    assert (alone.verdict, alone.reference) == ("correct", "pool")
    assert np.isnan(alone.khat)
    assert "particles have no density" in " ".join(alone.reasons)
    beside = ppl.check(fit, baseline=baseline)
    assert beside.verdict == "correct"
    assert beside.table["log_sd_ratio"].abs().max() < 0.1


def test_check_sees_particles_with_half_the_spread(monkeypatch, baseline):
    monkeypatch.setattr("ppl_models.inference.methods.svgd._Flow.placed", _half)
    fit = ppl.fit(regression, DATA, guide="svgd", seed=1, max_steps=1)
    monkeypatch.undo()
    found = ppl.check(fit, baseline=baseline)
    assert found.verdict == "reject"
    assert found.table["log_sd_ratio"].max() < -0.4


def _half(flow, points):
    return flow.begin.mean + 0.5 * points @ flow.begin.root.T
