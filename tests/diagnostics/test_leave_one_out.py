"""Normal data of known sd with a flat prior: y_i given the others is N(mean of the others, 1 + 1 / (n - 1))."""

import math

import arviz_base
import arviz_stats
import numpy as np
import pytest
from closed_forms import log_normal_density

from ppl_models.diagnostics import check_loo_khat, leave_one_out, pareto_khat
from ppl_models.errors import DataError

Z = 4.0
NUM_DATA, NUM_DRAWS = 30, 4_000


def problem(seed=1, *, width=1.0, shift=0.0, num_draws=NUM_DRAWS):
    """Data, log likelihood (draw, observation) and log ratio of draws of N(mean + shift sd, (width sd)²)."""
    rng = np.random.default_rng(seed)
    data = rng.normal(size=NUM_DATA)
    sd = 1.0 / math.sqrt(NUM_DATA)
    mean = data.mean()
    draws = mean + shift * sd + width * sd * rng.normal(size=num_draws)
    log_q = log_normal_density(draws, mean + shift * sd, width * sd)
    return data, log_normal_density(data, draws[:, None], 1.0), log_normal_density(draws, mean, sd) - log_q


def exact(data):
    others = (data.sum() - data) / (len(data) - 1)
    return log_normal_density(data, others, math.sqrt(1.0 + 1.0 / (len(data) - 1)))


@pytest.mark.statistical
@pytest.mark.parametrize("guide", [{}, {"width": 1.5}, {"width": 1.3, "shift": 0.5}, {"width": 0.85}], ids=str)
def test_guides_give_the_exact_figures_and_their_error(guide):
    data, densities, log_ratio = problem(**guide)
    found = leave_one_out(densities, log_ratio)
    assert abs(found.elpd.sum() - exact(data).sum()) < Z * found.mcse
    spread = [leave_one_out(*problem(**guide, num_draws=1_000)[1:])]
    totals = []
    for seed in range(60):
        rng = np.random.default_rng(100 + seed)
        sd, width, shift = 1 / math.sqrt(NUM_DATA), guide.get("width", 1.0), guide.get("shift", 0.0)
        draws = data.mean() + shift * sd + width * sd * rng.normal(size=1_000)
        ratio = log_normal_density(draws, data.mean(), sd)
        ratio -= log_normal_density(draws, data.mean() + shift * sd, width * sd)
        spread.append(leave_one_out(log_normal_density(data, draws[:, None], 1.0), ratio))
        totals.append(spread[-1].elpd.sum())
    reported = math.sqrt(np.mean([one.mcse**2 for one in spread[1:]]))
    ratio = reported / np.std(totals, ddof=1)
    assert abs(ratio - 1.0) < Z / math.sqrt(2 * 59) + 0.05


@pytest.mark.parametrize("guide", [{}, {"width": 0.7}, {"width": 1.5}], ids=str)
def test_agrees_with_arviz(guide):
    _, densities, log_ratio = problem(**guide)
    found = leave_one_out(densities, log_ratio)
    tree = arviz_base.from_dict({"posterior": {"x": log_ratio[None]}, "log_likelihood": {"y": densities[None]}})
    zeros = np.zeros(NUM_DRAWS)
    wanted = arviz_stats.loo_approximate_posterior(tree, log_ratio, zeros, pointwise=True, var_name="y")
    np.testing.assert_allclose(found.elpd, wanted.elpd_i, rtol=1e-10)
    np.testing.assert_allclose(found.khat, wanted.pareto_k, rtol=1e-9)
    # ArviZ takes the population's sd over observations
    assert found.standard_error == pytest.approx(wanted.se * math.sqrt(NUM_DATA / (NUM_DATA - 1)), rel=1e-10)


def test_draws_of_the_posterior_agree_with_arviz_too():
    _, densities, _ = problem()
    tree = arviz_base.from_dict({"posterior": {"x": densities[None, :, 0]}, "log_likelihood": {"y": densities[None]}})
    wanted = arviz_stats.loo(tree, pointwise=True, var_name="y", reff=0.7)
    found = leave_one_out(densities, relative_efficiency=0.7)
    np.testing.assert_allclose(found.elpd, wanted.elpd_i, rtol=1e-10)
    np.testing.assert_allclose(found.khat, wanted.pareto_k, rtol=1e-9)
    assert found.p_loo.sum() == pytest.approx(wanted.p, rel=1e-9)
    assert found.guide_khat == 0.0


@pytest.mark.statistical
def test_effective_parameters_are_those_of_the_posterior_and_not_of_the_guide():
    """The lppd of the exact posterior: y_i ~ N(mean, 1 + 1/n); a guide three times too wide would have it lower."""
    data, densities, log_ratio = problem(width=3.0, num_draws=20_000)
    within = log_normal_density(data, data.mean(), math.sqrt(1.0 + 1.0 / NUM_DATA))
    found = leave_one_out(densities, log_ratio)
    error = 5.0 * found.mcse  # its own parts are known no better
    assert abs(found.p_loo.sum() - (within.sum() - exact(data).sum())) < error


def test_weights_are_normalised():
    _, densities, log_ratio = problem()
    np.testing.assert_allclose(np.exp(leave_one_out(densities, log_ratio).log_weights).sum(axis=0), 1.0, rtol=1e-10)


def names(number):
    return [f"y[{i}]" for i in range(number)]


def test_an_outlier_is_named():
    rng = np.random.default_rng(3)
    data = rng.normal(size=10)
    data[4] = 12.0
    draws = data.mean() + rng.normal(size=NUM_DRAWS) / math.sqrt(10)
    found = leave_one_out(log_normal_density(data, draws[:, None], 1.0))
    check = check_loo_khat(found.khat, names(10), NUM_DRAWS)
    assert check.passed is False
    assert check.detail.startswith("1 of 10 beyond the limit")
    assert "y[4]" in check.detail
    assert "refit without" in check.advice


def test_a_guide_too_narrow_is_blamed_itself():
    _, densities, log_ratio = problem(width=0.3)
    found = leave_one_out(densities, log_ratio)
    assert found.guide_khat == pytest.approx(pareto_khat(log_ratio), rel=1e-10)
    check = check_loo_khat(found.khat, names(NUM_DATA), NUM_DRAWS, guide_khat=found.guide_khat)
    assert check.passed is False
    assert "a richer guide" in check.advice


@pytest.mark.statistical
@pytest.mark.parametrize("guide", [{}, {"width": 0.9}], ids=str)
def test_rate_of_false_alarms(guide):
    """A regular model: k-hats near 0.1 (0.3 for the narrow guide); at most one of 100 may fail."""
    failed = 0
    for seed in range(100):
        _, densities, log_ratio = problem(seed, num_draws=2_500, **guide)
        failed += check_loo_khat(leave_one_out(densities, log_ratio).khat, names(NUM_DATA), 2_500).passed is False
    assert failed <= 1


def test_impossible_draws_have_no_weight():
    data, densities, log_ratio = problem()
    spoilt, weights = densities.copy(), log_ratio.copy()
    weights[:100] = -np.inf
    spoilt[:100] = -np.inf
    found = leave_one_out(spoilt, weights)
    assert np.isfinite(found.elpd).all()
    assert abs(found.elpd.sum() - exact(data).sum()) < Z * found.mcse
    assert (np.exp(found.log_weights[:100]) == 0.0).all()


def test_observation_without_a_density_is_nan_and_never_a_pass():
    _, densities, log_ratio = problem()
    densities[5, 2] = np.nan
    found = leave_one_out(densities, log_ratio)
    assert np.isnan(found.elpd[2])
    assert np.isfinite(np.delete(found.elpd, 2)).all()
    check = check_loo_khat(found.khat, names(NUM_DATA), NUM_DRAWS)
    assert check.passed is None


def test_bad_input():
    for densities, log_ratio in ((np.zeros(500), None), (np.zeros((99, 3)), None), (np.zeros((500, 3)), np.zeros(499))):
        with pytest.raises(DataError):
            leave_one_out(densities, log_ratio)
    with pytest.raises(DataError, match="khat"):
        check_loo_khat(np.zeros(3), names(2), 500)
    assert check_loo_khat(np.zeros(3), names(3), 99).passed is None
