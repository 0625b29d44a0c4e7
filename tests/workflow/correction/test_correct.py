"""`ppl.correct` by weights and by independence chains: right where the weights allow it, plainly failed where not."""

import json

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from closed_forms import DATA, regression
from scipy.stats import chi2

import ppl_models as ppl
from ppl_models.errors import DataError, OptionError, UnknownNameError

from .planted import (
    CORRELATION,
    REGRESSION_MEAN,
    REGRESSION_SD,
    columns,
    far,
    fit_of,
    heavy_tailed,
    narrow,
    regression_fit,
    shifted,
    uncorrelated,
)

WEIGHTED = ("psis", "importance", "imh")
Z = 4.0
"""Standard errors allowed; some 50 comparisons in this file, each off by more in 6 of 100,000."""


@pytest.fixture(scope="module")
def fits():
    return {
        "narrow": fit_of(narrow),
        "heavy": fit_of(heavy_tailed),
        "far": fit_of(far),
        "shifted": regression_fit(shifted),
        "uncorrelated": regression_fit(uncorrelated),
    }


def moments_are(corrected, mean, sd):
    table = corrected.table
    assert (np.abs(table["mean"] - mean) < Z * table["mcse_sd"] * sd).all()
    assert (np.abs(np.log(table["sd"] / sd)) < Z * table["log_sd_mcse"]).all()


@pytest.mark.statistical
@pytest.mark.parametrize("method", WEIGHTED)
@pytest.mark.parametrize("name", ["narrow", "heavy"])
def test_a_wrong_width_is_put_right(fits, name, method):
    corrected = ppl.correct(fits[name], method=method, seed=2)
    assert corrected.passed, corrected
    moments_are(corrected, 0.0, 1.0)
    row = corrected.table.loc["x"]
    # those of the fit itself are beyond the same errors
    assert abs(np.log(row["sd"] / row["sd_ratio"])) > Z * row["log_sd_mcse"]
    assert (row["sd_ratio"] > 1.0) == (name == "narrow")


@pytest.mark.statistical
@pytest.mark.parametrize("method", WEIGHTED)
def test_a_wrong_mean_is_put_right(fits, method):
    corrected = ppl.correct(fits["shifted"], method=method, num_draws=6_000, seed=2)
    assert corrected.passed, corrected
    moments_are(corrected, REGRESSION_MEAN, REGRESSION_SD)
    row = corrected.table.loc["weights[0]"]
    assert row["shift_sd"] < -Z * row["mcse_sd"]
    assert abs(row["shift_sd"] + 0.4) < 2 * Z * row["mcse_sd"]


@pytest.mark.statistical
@pytest.mark.parametrize("method", WEIGHTED)
def test_a_correlation_that_the_guide_lacks_is_put_in(fits, method):
    corrected = ppl.correct(fits["uncorrelated"], method=method, num_draws=6_000, seed=2)
    assert corrected.passed, corrected
    weights = np.exp(corrected.log_weights) if method == "importance" else np.ones(6_000)
    draws = columns(corrected)
    found = np.cov(draws.T, aweights=weights / weights.mean())
    correlation = found[0, 1] / np.sqrt(found[0, 0] * found[1, 1])
    # Fisher: the error is (1 - rho²) / sqrt(n) for independent draws; the weights cost more in the tails, where
    # the guide is thin, than for the mean
    error = 2.0 * (1.0 - CORRELATION**2) / np.sqrt(corrected.num_effective)
    assert abs(correlation - CORRELATION) < Z * error
    raw = fits["uncorrelated"].sample(6_000, seed=2)["posterior"]["weights"].to_numpy()[0]
    assert abs(np.corrcoef(raw.T)[0, 1] - CORRELATION) > Z * error


@pytest.mark.statistical
@pytest.mark.parametrize("method", WEIGHTED)
def test_the_errors_that_are_given_are_those_that_are_made(fits, method):
    """Over 20 seeds the mean in its own standard errors has a mean square of 1: chi-square bounds at one in 1,000.

    Those of PSIS are the larger of two estimates, so that they may be up to twice too large.
    """
    repeats = 20
    tables = [ppl.correct(fits["narrow"], method=method, num_draws=1_000, seed=seed).table for seed in range(repeats)]
    z = np.array([table["mean"].iloc[0] / (table["mcse_sd"].iloc[0] * table["sd"].iloc[0]) for table in tables])
    square = float((z**2).mean())
    least, most = chi2.ppf([0.001, 0.999], repeats) / repeats
    assert square < most
    assert square > least / (4.0 if method == "psis" else 1.0)


@pytest.mark.parametrize("method", WEIGHTED)
def test_a_guide_too_far_off_is_not_passed(fits, method):
    corrected = ppl.correct(fits["far"], method=method, seed=2)
    assert not corrected.passed
    assert "nuts" in corrected.advice
    assert "NO" in repr(corrected)
    khat = next(check for check in corrected.checks if check.name == "k-hat")
    assert khat.passed is False
    assert corrected.num_effective < 400


def test_auto_takes_psis_where_k_hat_is_good(fits):
    corrected = ppl.correct(fits["narrow"], num_draws=1_000, seed=1)
    assert (corrected.method, corrected.config["method"]) == ("psis", "auto")
    assert "k-hat" in corrected.why


def test_shape_groups_and_statistics(fits):
    fit = fits["shifted"]
    trees = {method: ppl.correct(fit, method=method, num_draws=1_001, seed=1) for method in WEIGHTED}
    assert dict(trees["psis"].draws["posterior"].sizes) == {"chain": 1, "draw": 1_001, "weights_dim_0": 2}
    # chains of equal length
    assert dict(trees["imh"].draws["posterior"].sizes) == {"chain": 4, "draw": 251, "weights_dim_0": 2}
    for corrected in trees.values():
        assert {"posterior", "sample_stats", "observed_data", "constant_data"} <= set(corrected.draws.children)
        stats = corrected.draws["sample_stats"]
        assert np.isfinite(stats["log_p"]).all()
        assert corrected.draws.attrs["correction"] == corrected.method
        # a correction of the fit is no baseline for it
        with pytest.raises(DataError, match="cannot vouch"):
            ppl.check(fit, baseline=corrected.draws)
    log_weight = trees["importance"].draws["sample_stats"]["log_weight"].to_numpy()[0]
    np.testing.assert_allclose(np.exp(log_weight).sum(), 1.0, rtol=1e-10)
    ratio = fit.sample(1_001, seed=0)["sample_stats"]
    assert set(ratio) == {"log_p", "log_q"}
    assert len(trees["psis"].log_weights) == trees["psis"].config["num_proposals"]


def test_density_stays_with_its_draw(fits):
    """Log p and log q of the regression at the very draws that are given."""
    for method in WEIGHTED:
        corrected = ppl.correct(fits["shifted"], method=method, num_draws=1_000, seed=1)
        draws = torch.as_tensor(columns(corrected))
        with fits["shifted"].program.isolated(seed=0):
            log_p = [float(fits["shifted"].program.log_joint({"weights": draw})) for draw in draws[:20]]
        np.testing.assert_allclose(corrected.draws["sample_stats"]["log_p"].to_numpy().ravel()[:20], log_p, rtol=1e-10)


@pytest.mark.parametrize("method", WEIGHTED)
def test_same_seed_same_draws_and_nothing_left_behind(fits, method):
    before = torch.get_rng_state()
    first, again, other = (columns(ppl.correct(fits["narrow"], method=method, seed=s)) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


def test_more_proposals_are_drawn_where_the_weights_are_uneven(fits):
    few = ppl.correct(fits["shifted"], method="psis", num_draws=1_000, seed=1).config["num_proposals"]
    many = ppl.correct(fits["uncorrelated"], method="psis", num_draws=20_000, seed=1)
    assert few < many.config["num_proposals"]
    assert np.exp(-np.logaddexp.reduce(2.0 * many.log_weights)) > 20_000


def test_no_seconds_no_further_proposals(fits):
    found = ppl.correct(fits["uncorrelated"], method="psis", num_draws=20_000, seed=1, max_seconds=1e-9)
    assert found.config["num_proposals"] == 10_000


def test_it_prints_and_shows_itself_safely(fits):
    corrected = ppl.correct(fits["narrow"], num_draws=1_000, seed=1)
    text = repr(corrected)
    assert all(word in text for word in ("psis", "k-hat", "effective draws", "shift_sd", "passed"))
    assert (corrected.seed, corrected.advice) == (1, "")
    assert "torch" in corrected.versions
    json.dumps(dict(corrected.config), default=str)

    def odd():
        pyro.sample("<b>x", dist.Normal(0.0, 1.0))

    shown = ppl.correct(fit_of(odd, odd), num_draws=1_000)._repr_html_()
    assert "&lt;b&gt;x" in shown
    assert "<b>" not in shown


def test_frozen(fits):
    corrected = ppl.correct(fits["narrow"], num_draws=1_000)
    with pytest.raises(AttributeError):
        corrected.method = "nuts"


@pytest.mark.parametrize("method", WEIGHTED)
@pytest.mark.parametrize("guide", ["delta", "particles"])
def test_what_has_no_density_has_no_weights(method, guide):
    fit = ppl.fit(regression, DATA, guide=guide, max_steps=2, backend="eager", seed=1)
    with pytest.raises(OptionError, match="'nuts'"):
        ppl.correct(fit, method=method)


def test_discrete_latents_are_weighted_but_no_chain_moves_them():
    def coin(y=None):
        side = pyro.sample("side", dist.Bernoulli(0.5))
        pyro.sample("y", dist.Normal(2.0 * side, 1.0), obs=y)

    def biased(y=None):
        pyro.sample("side", dist.Bernoulli(0.6))

    def sure(y=None):
        pyro.sample("side", dist.Bernoulli(1e-3))

    data = {"y": torch.tensor(0.5)}
    fit = fit_of(biased, coin, data)
    with pytest.raises(OptionError, match="side"):
        ppl.correct(fit, method="nuts")
    corrected = ppl.correct(fit, seed=1)
    assert (corrected.method, corrected.passed) == ("psis", True)
    odds = np.exp(-0.5 * (0.5 - 2.0) ** 2 + 0.5 * 0.5**2)
    row = corrected.table.loc["side"]
    assert abs(row["mean"] - odds / (1 + odds)) < Z * row["mcse_sd"] * row["sd"]
    unsure = ppl.correct(fit_of(sure, coin, data), seed=1)
    assert (unsure.method, unsure.passed) == ("psis", False)
    assert "discrete" in unsure.why


def test_a_model_without_density_at_some_draws_is_an_error_or_left_to_nuts():
    def broken():
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        pyro.factor("nan", torch.where(x > 3.0, torch.nan, 0.0))

    fit = fit_of(lambda: pyro.sample("x", dist.Normal(0.0, 1.0)), broken)
    for method in WEIGHTED:
        with pytest.raises(DataError, match="NaN"):
            ppl.correct(fit, method=method)


def test_bad_options(fits):
    fit = fits["narrow"]
    with pytest.raises(UnknownNameError, match="psis"):
        ppl.correct(fit, method="psiss")
    with pytest.raises(UnknownNameError, match="eager"):
        ppl.correct(fit, backend="eagre")
    for options in ({"num_draws": 100}, {"seed": -1}, {"max_seconds": 0.0}):
        with pytest.raises(OptionError, match=next(iter(options))):
            ppl.correct(fit, **options)
    with pytest.raises(OptionError, match=r"ppl\.fit"):
        ppl.correct("fit")
