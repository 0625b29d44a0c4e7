"""`ppl.correct` by NUTS: what is passed to the chains, and that they are right where weights are of no use."""

from typing import ClassVar

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
import xarray as xr
from closed_forms import DATA, regression

import ppl_models as ppl
from ppl_models.errors import ModelError, OptionError
from ppl_models.inference import sample_chains
from ppl_models.workflow.auto.result import as_auto
from ppl_models.workflow.correction import nuts

from .planted import columns, far, fit_of, narrow, regression_fit, standard, uncorrelated

Z = 4.0


@pytest.fixture
def asked(monkeypatch):
    """Records what chains are asked for; gives those that a test puts into `trees`, one after the other."""

    class Asked(list):
        trees: ClassVar[list] = []

    found = Asked()

    def fake(**options):
        found.append(options)
        given = found.trees[min(len(found), len(found.trees)) - 1]
        if isinstance(given, Exception):
            raise given
        return given(options["draws"])

    monkeypatch.setattr(nuts, "sample_chains", fake)
    return found


def chains(name="x", shape=(), diverging=False, stuck=False):
    """Draws of independent normals, or of chains that each stay near a place of their own."""

    def make(num_draws):
        rng = np.random.default_rng(0)
        values = rng.standard_normal((4, num_draws, *shape))
        if stuck:
            values = 0.1 * values + np.arange(4.0).reshape(4, 1, *(1 for _ in shape))
        dims = ("chain", "draw", *(f"{name}_dim_{axis}" for axis in range(len(shape))))
        posterior = xr.Dataset({name: (dims, values)}, coords={"chain": np.arange(4), "draw": np.arange(num_draws)})
        bad = np.zeros((4, num_draws), dtype=bool)
        bad[0, 0] = diverging
        stats = xr.Dataset({"diverging": (("chain", "draw"), bad)}, coords=dict(posterior.coords))
        return xr.DataTree.from_dict({"posterior": posterior, "sample_stats": stats})

    return make


@pytest.mark.statistical
def test_a_guide_too_far_off_is_left_to_nuts_and_the_draws_are_right(monkeypatch):
    monkeypatch.setattr(nuts, "WARM", 100)  # a normal in one dimension needs no more
    corrected = ppl.correct(fit_of(far), num_draws=1_000, backend="eager", seed=1)
    assert (corrected.method, corrected.passed) == ("nuts", True), corrected
    assert "k-hat" in corrected.why
    row = corrected.table.loc["x"]
    assert abs(row["mean"]) < Z * row["mcse_sd"]
    assert abs(np.log(row["sd"])) < Z * row["log_sd_mcse"]
    # against the fit's own draws, N(3, 0.3²)
    assert abs(row["shift_sd"] + 3.0) < 2 * Z * row["mcse_sd"]
    assert corrected.draws["posterior"].sizes["draw"] == 250
    assert list(corrected.draws["posterior"]["draw"].to_numpy()) == list(range(250))
    assert {"observed_data", "sample_stats"} & set(corrected.draws.children)
    assert corrected.draws.attrs["correction"] == "nuts"


@pytest.mark.statistical
def test_chains_run_with_the_parameters_that_the_fit_learnt(asked):
    """y ~ N(x, 1), x ~ N(loc, 1), so E x = (y + loc) / 2."""

    def model(y=None):
        loc = pyro.param("loc", torch.tensor(0.0))
        x = pyro.sample("x", dist.Normal(loc, 1.0))
        pyro.sample("y", dist.Normal(x, 1.0), obs=y)

    fit = ppl.fit(model, {"y": torch.tensor(4.0)}, guide="normal", max_steps=100, backend="eager", seed=1)
    loc = float(fit.parameters["loc"])
    assert abs(loc) > 0.5
    asked.trees = [chains()]
    ppl.correct(fit, method="nuts", num_draws=2_000, seed=1)
    (options,) = asked
    assert float(options["parameters"]["loc"]) == loc
    draws = sample_chains(**{**options, "warmup": 50, "draws": 50, "backend": "eager"})["posterior"]["x"].to_numpy()
    # at least 50 of the 200 draws count, of sd sqrt(1/2)
    error = Z * np.sqrt(0.5 / 50)
    assert abs(draws.mean() - 0.5 * (4.0 + loc)) < error


def test_chains_run_in_the_coordinates_of_the_fit_from_its_weighted_draws(asked):
    asked.trees = [chains("weights", (2,))]
    fit = regression_fit(uncorrelated)
    ppl.correct(fit, method="nuts", num_draws=2_000, seed=1)
    (options,) = asked
    assert options["init"] is fit
    assert (options["chains"], options["warmup"], options["draws"]) == (4, nuts.WARM, 500)
    assert options["model"] is regression
    assert set(options["data"]) == set(DATA)
    # by their weights, the starts have the posterior's correlation, -0.69; the guide has none
    starts = options["starts"]
    assert starts.shape == (nuts.NUM_STARTS, 2)
    assert np.corrcoef(starts.T)[0, 1] < -0.4


def test_starts_are_flat_and_spread_where_there_are_no_weights(asked):
    def positive():
        pyro.sample("x", dist.LogNormal(0.0, 1.0))

    def misplaced():
        pyro.sample("x", dist.LogNormal(5.0, 0.1))

    asked.trees = [chains()]
    ppl.correct(fit_of(misplaced, positive), method="nuts", num_draws=2_000, seed=1)
    starts = asked[0]["starts"]
    error = Z * nuts.WIDER * 0.1 / np.sqrt(nuts.NUM_STARTS)
    assert abs(starts.mean() - 5.0) < error
    assert abs(starts.std() - nuts.WIDER * 0.1) < error


@pytest.mark.parametrize("guide", ["delta", "particles"])
def test_a_fit_without_density_gives_no_coordinates(asked, guide):
    asked.trees = [chains("weights", (2,))]
    fit = ppl.fit(regression, DATA, guide=guide, max_steps=2, backend="eager", seed=1)
    corrected = ppl.correct(fit, seed=1)
    assert corrected.method == "nuts"
    assert "density" in corrected.why
    assert asked[0]["init"] is None
    assert asked[0]["warmup"] == nuts.COLD
    assert (asked[0]["starts"] is None) == (guide == "delta")


def test_chains_that_diverged_are_run_again_stricter_and_longer(asked):
    asked.trees = [chains(diverging=True), chains()]
    corrected = ppl.correct(fit_of(far), method="nuts", num_draws=2_000, seed=1)
    assert corrected.passed
    first, second = asked
    assert second["target_accept"] == nuts.STRICTER > first["target_accept"]
    assert (second["draws"], second["warmup"]) == (4 * first["draws"], 4 * first["warmup"])
    assert second["seed"] != first["seed"]
    assert corrected.draws["posterior"].sizes["draw"] == 500


def test_one_divergence_among_the_draws_thinned_away_still_counts(asked):
    asked.trees = [chains(diverging=True)]
    corrected = ppl.correct(fit_of(far), method="nuts", num_draws=1_000, seed=1)
    failed = [check.name for check in corrected.checks if not check.passed]
    assert (corrected.passed, failed) == (False, ["divergences"])


def test_chains_that_do_not_mix_are_given_and_not_passed(asked):
    asked.trees = [chains(stuck=True)]
    corrected = ppl.correct(fit_of(far), seed=1)
    assert (corrected.method, corrected.passed) == ("nuts", False)
    assert any(check.name == "R-hat" and check.passed is False for check in corrected.checks)
    assert "reparametrise" in corrected.advice
    assert "NO (" in repr(corrected)


def test_without_seconds_auto_gives_the_weighted_draws_and_says_so(asked):
    asked.trees = [TimeoutError("used up")]
    corrected = ppl.correct(fit_of(far), seed=1)
    assert (corrected.method, corrected.passed) == ("psis", False)
    assert "seconds" in corrected.why
    with pytest.raises(TimeoutError):
        ppl.correct(fit_of(far), method="nuts", seed=1)


def test_a_first_try_that_failed_is_given_where_the_second_has_no_time(asked):
    asked.trees = [chains(stuck=True), TimeoutError("used up")]
    corrected = ppl.correct(fit_of(far), method="nuts", seed=1)
    assert len(asked) == 2
    assert not corrected.passed


def test_where_nuts_fails_auto_says_why(asked):
    asked.trees = [ModelError("no start found: whatever.")]
    corrected = ppl.correct(fit_of(far), seed=1)
    assert (corrected.method, corrected.passed) == ("psis", False)
    assert "no start found" in corrected.why


def test_weights_that_are_not_finite_leave_it_to_nuts(asked):
    def broken():
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        pyro.factor("nan", torch.where(x > 3.0, torch.nan, 0.0))

    asked.trees = [chains()]
    corrected = ppl.correct(fit_of(lambda: pyro.sample("x", dist.Normal(0.0, 1.0)), broken), seed=1)
    assert corrected.method == "nuts"
    assert "NaN" in corrected.why


def test_a_fit_by_auto_is_corrected_from_its_guide_and_its_chains_are_given_as_they_are(asked):
    plain = fit_of(narrow)
    resampled = as_auto(plain, {"chosen": "normal", "passed": True})
    corrected = ppl.correct(resampled, num_draws=1_000, seed=1)
    assert corrected.method == "psis"
    assert abs(corrected.table.loc["x", "sd_ratio"] - 0.7**-0.5) < 0.1
    tree = chains()(1_000)
    ended = as_auto(plain, {"chosen": "NUTS", "passed": True, "chains": tree})
    corrected = ppl.correct(ended, seed=1)
    assert corrected.method == "nuts"
    assert "already" in corrected.why
    assert not asked
    np.testing.assert_array_equal(columns(corrected)[:, 0], tree["posterior"]["x"].to_numpy().ravel())
    assert "correction" not in tree.attrs


def test_a_fit_from_batches_is_refused():
    def model(y):
        loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
        with pyro.plate("row", 100, subsample_size=len(y)):
            pyro.sample("y", dist.Normal(loc, 1.0), obs=y)

    loader = torch.utils.data.DataLoader(torch.zeros(100), batch_size=10)
    fit = ppl.fit(model, loader, guide="normal", max_steps=2, backend="eager", seed=1)
    with pytest.raises(OptionError, match="batches"):
        ppl.correct(fit)


def test_data_given_by_place_are_passed_by_place():
    fit = ppl.fit(regression, tuple(DATA.values()), guide=uncorrelated, max_steps=1, backend="eager", seed=1)
    assert len(nuts.data_of(fit)) == 2
    assert nuts.data_of(fit_of(narrow, standard)) == {}
