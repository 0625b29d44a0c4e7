"""`guide="auto"`: what it chooses on targets that are known, what it refuses, and what it says."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from closed_forms import COVARIANCE, DATA, MEAN, SD, regression

import ppl_models as ppl
from ppl_models.errors import OptionError
from ppl_models.workflow import AutoFit

NUM_DRAWS = 10_000


def funnel():
    x = pyro.sample("x", dist.Normal(0.0, 3.0))
    pyro.sample("y", dist.Normal(torch.zeros(9), (0.5 * x).exp().unsqueeze(-1)).to_event(1))


def two_modes():
    """0.3 N(-4, 1) + 0.7 N(4, 1)."""
    x = pyro.sample("x", dist.Normal(0.0, 5.0).mask(False))
    modes = dist.Normal(torch.tensor([-4.0, 4.0]), 1.0).log_prob(x.unsqueeze(-1)) + torch.tensor([0.3, 0.7]).log()
    pyro.factor("modes", modes.logsumexp(-1))


def banana():
    x = pyro.sample("x", dist.Normal(0.0, 1.0))
    pyro.sample("y", dist.Normal(x**2, 0.1))


def columns(fit, num_draws=NUM_DRAWS, seed=3):
    posterior = fit.sample(num_draws, seed=seed)["posterior"]
    return np.concatenate([v.to_numpy().reshape(v.sizes["draw"], -1) for v in posterior.data_vars.values()], axis=1)


@pytest.fixture(scope="module")
def easy():
    return ppl.fit(regression, DATA, guide="auto", seed=1)


@pytest.mark.statistical
def test_a_correlated_normal_is_done_on_the_first_rung_and_its_draws_are_right(easy):
    assert isinstance(easy, AutoFit)
    assert easy.passed
    assert len(easy.rungs) == 1
    draws = columns(easy)
    # resampled draws repeat: at least a third of 10,000 count
    error = 4 / np.sqrt(NUM_DRAWS / 3)
    assert (np.abs(draws.mean(0) - MEAN.numpy()) < error * SD.numpy()).all()
    assert (np.abs(np.log(draws.std(0) / SD.numpy())) < error).all()
    assert abs(np.corrcoef(draws.T)[0, 1] - float(COVARIANCE[0, 1] / SD[0] / SD[1])) < error


def test_the_result_says_what_was_tried(easy):
    text = repr(easy)
    assert easy.chosen in text
    assert "passed" in text
    names = [check.name for check in easy.rungs[0].checks]
    for wanted in ("optimiser status", "stationarity", "k-hat", "Monte Carlo error", "correction", "other starts"):
        assert wanted in names
    assert easy.evaluations > 0
    assert easy.seconds > 0.0


def test_same_seed_same_draws_and_nothing_left_behind(easy):
    before = torch.get_rng_state()
    np.testing.assert_array_equal(columns(easy, 100), columns(easy, 100))
    assert not np.array_equal(columns(easy, 100, seed=1), columns(easy, 100, seed=2))
    assert torch.equal(before, torch.get_rng_state())


def test_log_q_is_that_of_the_guide_in_constrained_coordinates():
    def positive(y):
        scale = pyro.sample("scale", dist.Gamma(2.0, 2.0))
        with pyro.plate("row", len(y)):
            pyro.sample("y", dist.Normal(0.0, scale), obs=y)

    fit = ppl.fit(positive, {"y": torch.tensor([0.5, -1.0, 2.0])}, guide="auto", seed=1)
    assert fit.passed
    tree = fit.sample(500, seed=2)
    scale = torch.as_tensor(tree["posterior"]["scale"].to_numpy()[0])
    with fit.program.isolated(seed=0):
        own = fit.guide.get_posterior().log_prob(scale.log().unsqueeze(-1)).detach() - scale.log()
    np.testing.assert_allclose(tree["sample_stats"]["log_q"].to_numpy()[0], own.numpy(), rtol=1e-8, atol=1e-8)


@pytest.mark.statistical
def test_two_modes_get_their_weights():
    fit = ppl.fit(two_modes, {}, guide="auto", seed=1, allow_mcmc=False)
    assert fit.passed
    share = (columns(fit)[:, 0] < 0.0).mean()
    assert abs(share - 0.3) < 4 * np.sqrt(0.21 / (NUM_DRAWS / 3))


def test_one_mode_of_two_is_refused_by_draws_from_other_starts():
    """Linear response sits on one mode with k-hat near zero there; the other mode is seen by Pathfinder's draws."""

    def far_apart():
        x = pyro.sample("x", dist.Normal(0.0, 5.0).mask(False))
        modes = dist.Normal(torch.tensor([-15.0, 15.0]), 1.0).log_prob(x.unsqueeze(-1)) - np.log(2.0)
        pyro.factor("modes", modes.logsumexp(-1))

    fit = ppl.fit(far_apart, {}, guide="auto", seed=1, allow_mcmc=False, init={"x": 14.0})
    first = fit.rungs[0]
    assert not first.passed
    failed = {check.name for check in first.checks if check.passed is not True}
    assert failed <= {"other starts", "k-hat"}
    if fit.passed:
        assert 0.4 < (columns(fit)[:, 0] < 0.0).mean() < 0.6


@pytest.mark.slow
@pytest.mark.statistical
@pytest.mark.parametrize("seconds", [8.0, pytest.param(60.0, marks=pytest.mark.exhaustive)])
def test_a_funnel_that_no_guide_fits_is_left_to_mcmc_or_refused_plainly(seconds):
    fit = ppl.fit(funnel, {}, guide="auto", seed=1, max_seconds=seconds)
    if not fit.passed:
        assert "none passed" in repr(fit)
        assert ppl.check(fit, seed=1).verdict == "reject"
        return
    x = columns(fit)[:, 0]
    assert abs(x.mean()) < 0.3 * 3.0
    assert abs(np.log(x.std() / 3.0)) < np.log(1.2)


def test_without_mcmc_a_target_beyond_the_families_is_refused_plainly(monkeypatch):
    from ppl_models.workflow.auto import ladder

    monkeypatch.setattr(ladder, "LADDER", ladder.LADDER[:3])  # no flow, which takes long
    fit = ppl.fit(banana, {}, guide="auto", seed=1, allow_mcmc=False)
    assert not fit.passed
    assert len(fit.rungs) == 3
    assert all(rung.reason for rung in fit.rungs)
    verdict = ppl.check(fit, seed=1)
    assert verdict.verdict == "reject"
    assert "No rung" in str(verdict)
    # uncorrected, since the weights are not to be trusted
    assert fit.sample(10, seed=1).attrs["resampled"] == 0


@pytest.mark.statistical
def test_mcmc_is_the_last_rung_and_its_draws_are_given(monkeypatch, tmp_path):
    from ppl_models.workflow.auto import ladder

    monkeypatch.setattr(ladder, "LADDER", ladder.LADDER[:3])
    fit = ppl.fit(banana, {}, guide="auto", seed=1)
    assert fit.rungs[-1].name == fit.chosen == "NUTS"
    assert fit.passed
    draws = columns(fit, 4_000)
    # x ~ N(0, 1), E y = 1, and at least 400 effective draws
    assert abs(draws[:, 0].mean()) < 4 / np.sqrt(400)
    assert abs(draws[:, 1].mean() - 1.0) < 4 * np.sqrt(2.01 / 400)
    tree = fit.sample(100, seed=1)
    assert np.isnan(tree["sample_stats"]["log_q"].to_numpy()).all()
    assert np.isfinite(tree["sample_stats"]["log_p"].to_numpy()).all()
    assert ppl.check(fit, seed=1).verdict == "trust"
    with pytest.raises(OptionError, match="to_netcdf"):
        fit.save(tmp_path / "fit")


def test_the_budget_is_kept():
    fit = ppl.fit(banana, {}, guide="auto", seed=1, max_seconds=3.0)
    assert fit.seconds < 30.0  # far below what flow and chains would take without it
    assert any("seconds" in rung.reason for rung in fit.rungs) or fit.passed


@pytest.mark.parametrize(
    "options", [{"max_steps": 10}, {"step_size": 0.1}, {"guide_options": {"rank": 2}}, {"method": "svi"}], ids=str
)
def test_what_concerns_one_guide_alone_is_refused(options):
    with pytest.raises(OptionError, match=next(iter(options))):
        ppl.fit(regression, DATA, guide="auto", **options)


def test_saved_and_read_it_is_what_it_was(easy, tmp_path):
    path = easy.save(tmp_path / "fit.safetensors")
    again = ppl.load_fit(path, regression, DATA)
    assert isinstance(again, AutoFit)
    assert again.chosen == easy.chosen
    assert [rung.name for rung in again.rungs] == [rung.name for rung in easy.rungs]
    np.testing.assert_allclose(columns(again, 200), columns(easy, 200), rtol=1e-10)


@pytest.mark.statistical
def test_verdicts_with_and_without_a_baseline(easy):
    baseline = ppl.sample(regression, DATA, warmup=300, draws=1_000, seed=1)
    with_one, alone = ppl.check(easy, baseline=baseline, seed=2), ppl.check(easy, seed=2)
    assert (with_one.verdict, with_one.reference) == ("trust", "baseline")
    assert alone.verdict == "trust"
    assert any("ladder" in check.name for check in alone.checks)


def test_discrete_latents_are_refused_before_anything_is_fitted():
    def coin():
        pyro.sample("side", dist.Bernoulli(0.5))
        pyro.sample("x", dist.Normal(0.0, 1.0))

    with pytest.raises(ppl.PPLError, match="side"):
        ppl.fit(coin, {}, guide="auto")


@pytest.mark.statistical
@pytest.mark.parametrize("seed", [0, 1])
def test_a_wide_slab_behind_a_spike_is_not_overlooked(seed):
    """The guide that sat on the spike has k-hat within limits; a refused, wider one had seen the slab."""

    def spike_and_slab():
        x = pyro.sample("x", dist.Normal(0.0, 1.0).mask(False))
        parts = [dist.Normal(0.0, 0.003).log_prob(x) + np.log(0.8), dist.Normal(0.0, 1.0).log_prob(x) + np.log(0.2)]
        pyro.factor("density", torch.stack(parts).logsumexp(0))

    fit = ppl.fit(spike_and_slab, {}, guide="auto", seed=seed, allow_mcmc=False, max_seconds=30.0)
    if fit.passed:
        assert abs(np.log(columns(fit).std() / np.sqrt(0.2))) < np.log(1.1)
