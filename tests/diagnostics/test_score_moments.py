import math

import numpy as np
import pytest
from scipy.stats import ortho_group, truncnorm

from ppl_models.diagnostics import check_scores, score_moments, stein_statistics
from ppl_models.errors import DataError
from tests.diagnostics import densities

MAX_CHANCE = 5.0  # Monte Carlo errors: one of a million comparisons is beyond


def normal_target(dim, condition, seed=0):
    rng = np.random.default_rng(seed)
    axes = ortho_group.rvs(dim, random_state=rng) if dim > 1 else np.eye(1)
    root = axes * np.sqrt(np.logspace(0.0, math.log10(condition), dim))
    return rng.normal(size=dim), root @ root.T, root


def normal_score(draws, mean, covariance):
    return np.linalg.solve(covariance, (mean - draws).T).T


@pytest.mark.parametrize("condition", [1.0, 1e3, 1e6])
@pytest.mark.parametrize("dim", [1, 2, 5, 20, 50])
def test_a_normal_posterior_is_recovered_to_rounding_from_any_draws(dim, condition):
    mean, covariance, root = normal_target(dim, condition)
    rng = np.random.default_rng(1)
    draws = rng.exponential(size=(max(200, 10 * dim), dim)) @ root.T * 0.4 + 3.0 * root.sum(axis=1)
    found = score_moments(draws, normal_score(draws, mean, covariance))
    sd = np.sqrt(np.diag(covariance))
    assert found.residual < 1e-12
    np.testing.assert_allclose((found.mean - mean) / sd, 0.0, atol=1e-8)
    np.testing.assert_allclose(found.covariance / np.outer(sd, sd), covariance / np.outer(sd, sd), rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(found.table["mean_error_sd"], (draws.mean(axis=0) - mean) / sd, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(found.table["log_sd_ratio"], np.log(draws.std(axis=0) / sd), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_units_do_not_matter(scale):
    draws, scores = densities.gumbel(np.random.default_rng(0), 1_000, 3)
    one, other = score_moments(draws, scores), score_moments(draws * scale + 5.0 * scale, scores / scale)
    np.testing.assert_allclose(one.table, other.table, rtol=1e-7, atol=1e-10)


def test_a_truncated_guide_is_seen_though_its_weights_are_equal():
    draws = truncnorm.rvs(-1.5, 1.5, size=(10_000, 1), random_state=np.random.default_rng(0))
    found = score_moments(draws, -draws)
    np.testing.assert_allclose(found.covariance, 1.0, rtol=1e-10)
    assert check_scores(draws, -draws)[1].passed is False


@pytest.mark.statistical
@pytest.mark.parametrize("density", densities.EXACT)
@pytest.mark.parametrize(("num_draws", "dim"), [(1_000, 4), (1_000, 40)])
def test_errors_of_exact_draws_are_zero_within_the_stated_monte_carlo_error(density, num_draws, dim):
    num_seeds = 40
    tables = [score_moments(*density(np.random.default_rng(seed), num_draws, dim)).table for seed in range(num_seeds)]
    for column in ("mean_error_sd", "log_sd_ratio"):
        scores = np.array([table[column] / table[f"{column}_mcse"] for table in tables])
        assert abs(scores.mean()) * math.sqrt(scores.size) < MAX_CHANCE
        # a variance of n normal variables has a relative error of sqrt(2 / n); the scores are not quite normal
        assert abs(scores.var() - 1.0) < MAX_CHANCE * math.sqrt(2.0 / scores.size) + 0.1


@pytest.mark.statistical
@pytest.mark.parametrize("density", densities.EXACT)
def test_exact_guides_pass_whatever_the_posterior(density):
    verdicts = [
        check.passed for seed in range(50) for check in check_scores(*density(np.random.default_rng(seed), 4_000, 6))
    ]
    assert verdicts.count(False) == 0  # 100 checks at 0.27 %
    assert verdicts.count(True) >= 98


@pytest.mark.parametrize(
    ("shift", "width", "mean_passed", "sd_passed"),
    [(0.0, 1.0, True, True), (0.4, 1.0, False, True), (0.0, 0.5, True, False), (0.0, 1.5, True, False)],
)
def test_planted_faults_fail_and_name_the_parameter(shift, width, mean_passed, sd_passed):
    draws = np.random.default_rng(0).normal(size=(10_000, 8))
    draws[:, 3] = draws[:, 3] * width + shift
    mean, sd = check_scores(draws, -draws, list("abcdefgh"))
    assert (mean.passed, sd.passed) == (mean_passed, sd_passed)
    for check in (mean, sd):
        assert check.passed or "worst: d" in check.detail
    assert mean.passed or mean.value == pytest.approx(shift, abs=MAX_CHANCE * mean.mcse)
    assert sd.passed or sd.value == pytest.approx(abs(math.log(width)), abs=MAX_CHANCE * sd.mcse)


def test_a_dropped_correlation_shows_in_the_sds():
    correlation = np.array([[1.0, 0.9], [0.9, 1.0]])
    draws = np.random.default_rng(0).normal(size=(10_000, 2)) * math.sqrt(1 - 0.9**2)  # mean-field optimum
    mean, sd = check_scores(draws, normal_score(draws, np.zeros(2), correlation))
    assert mean.passed is True
    assert sd.passed is False
    assert sd.value == pytest.approx(-0.5 * math.log(1 - 0.9**2), abs=MAX_CHANCE * sd.mcse)


def student_score(draws):
    return -4.0 * draws / (3.0 + draws**2)


@pytest.mark.parametrize(
    ("mean", "sd", "score"), [(0.5, 1.0, lambda z: np.exp(-z) - 1.0), (0.0, 1.2587, student_score)], ids=["gumbel", "t"]
)
def test_a_normal_guide_that_has_converged_on_another_shape_is_no_pass(mean, sd, score):
    draws = mean + sd * np.random.default_rng(0).normal(size=(10_000, 1))  # optimum of the ELBO, 22 and 27 % too narrow
    for check in check_scores(draws, score(draws)):
        assert check.value < check.limit
        assert check.passed is None
        assert "not normal" in check.detail


def test_a_large_error_of_a_bent_score_is_left_undecided():
    draws = 0.5772 + 1.2825 * np.random.default_rng(0).normal(size=(10_000, 1))  # the right mean and sd of a Gumbel
    checks = check_scores(draws, np.exp(-draws) - 1.0)
    assert [check.passed for check in checks] == [None, None]
    assert all(check.value > check.limit for check in checks)


def bad_inputs():
    draws, scores = densities.normal(np.random.default_rng(0), 1_000, 3)
    missing, constant, plane = scores.copy(), draws.copy(), draws.copy()
    missing[:20, 1] = np.nan
    constant[:, 1] = 2.0
    plane[:, 1] = plane[:, 0]
    wide, wide_scores = densities.normal(np.random.default_rng(0), 300, 31)
    return {
        "no finite score": (draws, missing),
        "`x[1]` is constant": (constant, scores),
        "in a plane": (plane, scores),
        "199 draws": (draws[:199], scores[:199]),
        "10 for each": (wide, wide_scores),
        "not concave": (draws, draws),
    }


@pytest.mark.parametrize("why", bad_inputs())
def test_what_cannot_be_measured_is_no_pass(why):
    draws, scores = bad_inputs()[why]
    for check in check_scores(draws, scores):
        assert check.passed is None
        assert math.isnan(check.value)
        assert check.detail.startswith("not measured: ")
        assert why in check.detail
    assert score_moments(draws, scores).table.isna().to_numpy().all()


def test_a_few_scores_that_are_not_finite_are_left_out():
    draws, scores = densities.normal(np.random.default_rng(0), 1_000, 3)
    scores[:10] = np.inf
    assert score_moments(draws, scores).num_draws == 990


@pytest.mark.parametrize(
    ("shape", "labels"), [((300, 2), None), ((300,), None), ((300, 3), ["a", "b"]), ((300, 3), ["a", "b", "b"])]
)
def test_wrong_shapes_are_errors(shape, labels):
    draws = np.random.default_rng(0).normal(size=(300, 3))
    for function in (score_moments, check_scores, stein_statistics):
        with pytest.raises(DataError):
            function(draws, np.zeros(shape), labels)


@pytest.mark.statistical
@pytest.mark.parametrize("density", densities.EXACT)
def test_stein_statistics_of_exact_draws_are_standard_normal(density):
    tables = [stein_statistics(*density(np.random.default_rng(seed), 4_000, 4)) for seed in range(100)]
    for name in ("score_mean_z", "score_width_z"):
        found = np.array([table[name] for table in tables])
        assert abs(found.mean()) * math.sqrt(found.size) < MAX_CHANCE
        assert abs(found.var() - 1.0) < MAX_CHANCE * math.sqrt(2.0 / found.size) + 0.1


def test_stein_statistics_name_the_parameter():
    draws = np.random.default_rng(0).normal(size=(10_000, 4))
    draws[:, 1] += 0.3
    draws[:, 2] *= 0.5
    table = stein_statistics(draws, -draws, list("abcd"))
    assert table["score_mean_z"].abs().idxmax() == "b"
    assert table["score_width_z"].abs().idxmax() == "c"
    mcse = table.loc["c", "score_width_mcse"]
    assert table.loc["c", "score_width"] == pytest.approx(0.75, abs=MAX_CHANCE * mcse)
    assert stein_statistics(np.zeros((300, 2)), np.zeros((300, 2))).isna().to_numpy().all()
