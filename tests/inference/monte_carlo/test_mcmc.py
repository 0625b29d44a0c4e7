"""Means of Markov chains: their errors on chains whose correlation is known."""

import arviz_base
import numpy as np
import pytest
import torch
import xarray as xr

from ppl_models.errors import DataError, OptionError
from ppl_models.inference.monte_carlo.integrand import Integrand
from ppl_models.inference.monte_carlo.mcmc import MarkovChain
from ppl_models.inference.monte_carlo.tails import NAME as TAILS
from ppl_models.inference.monte_carlo.tree_source import TreeSource
from ppl_models.workflow.expecting import expect

from .coverage import BAND, covered


def chains(phi, num_chains, num_draws, num_series=1, seed=0, shift=0.0):
    """Stationary AR(1) chains of mean 0 and variance 1 / (1 - phi²), shape (chain, draw, series)."""
    rng = np.random.default_rng(seed)
    found = np.empty((num_chains, num_draws, num_series))
    found[:, 0] = rng.standard_normal((num_chains, num_series)) / np.sqrt(1.0 - phi**2)
    for draw in range(1, num_draws):
        found[:, draw] = phi * found[:, draw - 1] + rng.standard_normal((num_chains, num_series))
    found[0] += shift
    return arviz_base.from_dict({"posterior": {"x": found}})


def first(draws):
    return draws["x"]


@pytest.mark.statistical
@pytest.mark.parametrize(("phi", "num_chains", "num_draws"), [(0.6, 4, 250), (-0.5, 2, 250), (0.0, 1, 400)])
def test_intervals_cover_chains_of_known_mean(phi, num_chains, num_draws):
    num_series = 400
    run = MarkovChain().start(Integrand(first), TreeSource(chains(phi, num_chains, num_draws, num_series, seed=1)), 0)
    run.extend(10**9)
    found = run.estimate()
    share = covered(found.value, found.standard_error, 0.0, found.degrees_of_freedom)
    assert BAND[0] <= share <= BAND[1], share
    efficiency = np.mean(found.ess) / (num_chains * num_draws)
    assert efficiency == pytest.approx((1.0 - phi) / (1.0 + phi), rel=0.15)


@pytest.mark.exhaustive
@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9, 0.95])
def test_intervals_cover_in_many_runs(phi):
    run = MarkovChain().start(Integrand(first), TreeSource(chains(phi, 4, 2_000, 2_000, seed=2)), 0)
    run.extend(10**9)
    found = run.estimate()
    share = covered(found.value, found.standard_error, 0.0, found.degrees_of_freedom)
    assert BAND[0] <= share <= BAND[1], share


def test_the_error_of_independent_draws_would_be_too_small():
    """The planted fault: sd / sqrt(n) of a correlated chain."""
    tree = chains(0.8, 4, 500, 300, seed=3)
    values = tree["posterior"]["x"].to_numpy().reshape(-1, 300)
    assert covered(values.mean(axis=0), values.std(axis=0) / len(values) ** 0.5, 0.0) < 0.7


def test_more_draws_are_taken_until_the_tree_is_used_up():
    tree = chains(0.5, 4, 300)
    run = MarkovChain().start(Integrand(lambda d: d["x"][:, 0] ** 2), TreeSource(tree), 0)
    run.extend(400)
    assert run.estimate().num_draws == 400
    np.testing.assert_allclose(run.estimate().value, (tree["posterior"]["x"].to_numpy()[:, :100] ** 2).mean())
    run.extend(10_000)
    run.extend(10_000)
    assert run.estimate().num_draws == 1_200
    found = expect(lambda d: d["x"][:, 0], tree, target_error=1e-9)
    assert found.status == "budget"
    assert found.num_draws == 1_200


def test_chains_that_disagree_fail():
    good, bad = (expect(lambda d: d["x"][:, 0], chains(0.3, 4, 1_000, shift=by)) for by in (0.0, 2.0))
    assert good.passed
    assert not bad.passed
    assert "cannot be trusted" in repr(bad)


def test_one_chain_of_independent_draws_passes_and_one_that_drifts_fails():
    steady = expect(lambda d: d["x"][:, 0], chains(0.0, 1, 2_000))
    assert steady.passed
    assert steady.standard_error == pytest.approx(2_000**-0.5, rel=0.15)
    tree = chains(0.0, 1, 2_000)
    tree["posterior"]["x"][:] += np.linspace(0.0, 1.0, 2_000)[None, :, None]
    assert not expect(lambda d: d["x"][:, 0], tree).passed


def tree_of(values):
    return arviz_base.from_dict({"posterior": {"x": values[..., None]}})


def failing(found):
    return {check.name for check in found.checks if check.passed is not True}


def test_tails_without_a_variance_do_not_pass():
    """The planted fault: R-hat and ranks know nothing of the tails. x² of Student's t with 2.5 degrees: k = 0.8."""
    for seed in range(6):
        rng = np.random.default_rng(seed)
        found = expect(lambda d: d["x"][:, 0] ** 2, tree_of(rng.standard_t(2.5, (4, 1_000))))
        assert failing(found) & {TAILS, "skewness of the estimate"}, seed
        found = expect(lambda d: torch.exp(2.0 * d["x"][:, 0]), tree_of(rng.standard_normal((4, 500))))
        assert failing(found) & {TAILS, "skewness of the estimate"}, seed


@pytest.mark.parametrize(("phi", "num_draws"), [(0.0, 1_000), (0.5, 2_000), (0.9, 10_000)])
def test_ordinary_chains_pass(phi, num_draws):
    tree = chains(phi, 4, num_draws, seed=4)
    for f in (lambda d: d["x"][:, 0], lambda d: d["x"][:, 0] ** 2):
        found = expect(f, tree)
        assert found.passed, found


def test_skewness_is_that_of_the_mean_of_a_correlated_chain():
    """Each draw ten times in a row: as skewed as the mean of the single draws, not a root of ten less."""
    single = np.random.default_rng(0).exponential(size=(4, 500))
    once, often = (
        next(c for c in expect(first, tree_of(v)).checks if c.name == "skewness of the estimate")
        for v in (single, np.repeat(single, 10, axis=1))
    )
    assert often.value == pytest.approx(once.value, rel=0.3)


def test_a_constant_has_no_error_and_few_draws_none_that_is_known():
    tree = chains(0.5, 2, 50)
    assert expect(lambda d: torch.ones(len(d["x"])), tree).standard_error == 0.0
    few = expect(lambda d: d["x"][:, 0], chains(0.5, 2, 3))
    assert np.isnan(few.standard_error)
    assert not few.passed


def test_mistakes_are_named():
    with pytest.raises(OptionError, match="method='plain'"):
        expect(torch.exp, torch.distributions.Normal(0.0, 1.0), method="mcmc")
    with pytest.raises(DataError, match="wanted 'posterior'"):
        expect(first, xr.DataTree.from_dict({"prior": xr.Dataset({"x": (("chain", "draw"), np.zeros((1, 5)))})}))
    with pytest.raises(DataError, match="wanted chain and draw first"):
        expect(first, xr.DataTree.from_dict({"posterior": xr.Dataset({"x": (("draw",), np.zeros(5))})}))
    with pytest.raises(OptionError, match="method='mcmc'"):
        TreeSource(chains(0.5, 2, 50)).draw(3)
