import itertools
import math

import numpy as np
import pytest
from scipy.linalg import sqrtm

from ppl_models.diagnostics import (
    check_error_bound,
    check_gap,
    cubo_estimate,
    elbo_estimate,
    importance_bound,
    moment_bounds,
    posterior_error_bounds,
    wasserstein_bound,
)
from ppl_models.errors import DataError, OptionError
from tests.diagnostics.densities import normal_log_ratio

MAX_CHANCE = 5.0


def normal_posterior(rng):
    """A random normal p beside q standard normal: mean and covariance; from nearly equal to far apart."""
    dim, size = int(rng.integers(1, 7)), 10 ** rng.uniform(-2.0, 0.0)
    root = np.eye(dim) + size * np.tril(rng.normal(size=(dim, dim)))
    return size * rng.normal(size=dim), root @ root.T


def chi_exponent(mean, covariance):
    """2 CUBO_2 - 2 log Z in closed form, log E_q[(p/q)^2]; infinite where a direction of p is twice as wide."""
    precision = np.linalg.inv(covariance)
    doubled = 2.0 * precision - np.eye(len(mean))
    if np.linalg.eigvalsh(doubled).min() <= 0.0:
        return math.inf
    slope = 2.0 * precision @ mean
    logdets = -np.linalg.slogdet(covariance)[1] - 0.5 * np.linalg.slogdet(doubled)[1]
    return logdets + 0.5 * slope @ np.linalg.solve(doubled, slope) - mean @ precision @ mean


def exact_elbo(mean, covariance):
    precision = np.linalg.inv(covariance)
    divergence = np.trace(precision) + mean @ precision @ mean - len(mean) + np.linalg.slogdet(covariance)[1]
    return -0.5 * divergence


def exact_errors(mean, covariance):
    distance = mean @ mean + np.trace(covariance) + len(mean) - 2.0 * np.trace(np.real(sqrtm(covariance)))
    return np.abs(mean), np.abs(0.5 * np.log(np.diag(covariance))), math.sqrt(max(distance, 0.0))


def test_the_bounds_exceed_the_errors_of_every_normal_pair_from_exact_cubo_and_elbo():
    rng = np.random.default_rng(0)
    num_bounded = 0
    for _ in range(1_000):
        mean, covariance = normal_posterior(rng)
        exponent = chi_exponent(mean, covariance)
        mean_error, log_sd_ratio, distance = exact_errors(mean, covariance)
        dim = len(mean)
        # the evidence itself, the tightest bound, then the ELBO in its place
        for divergence in (exponent, exponent - 2.0 * exact_elbo(mean, covariance)):
            if not divergence < 700.0:
                continue
            bounds = moment_bounds(math.expm1(divergence), np.full(dim, 3.0))
            assert (mean_error <= bounds.mean_error_sd).all()
            assert (log_sd_ratio <= bounds.log_sd_ratio).all()
            assert distance <= wasserstein_bound(math.expm1(divergence), dim * (dim + 2.0))
            num_bounded += 1
    assert num_bounded > 800


@pytest.mark.statistical
def test_the_bounds_exceed_the_errors_where_they_are_estimated_and_khat_allows():
    rng = np.random.default_rng(1)
    num_bounded = 0
    for _ in range(400):
        mean, covariance = normal_posterior(rng)
        draws = rng.normal(size=(int(rng.choice([500, 5_000])), len(mean)))
        found = posterior_error_bounds(normal_log_ratio(draws, mean, covariance), draws)
        if found.why:
            assert found.khat > 0.5
            continue
        mean_error, log_sd_ratio, distance = exact_errors(mean, covariance)
        assert (mean_error <= found.table["mean_error_sd"]).all()
        assert (log_sd_ratio <= found.table["log_sd_ratio"]).all()
        assert distance <= found.wasserstein
        num_bounded += 1
    assert num_bounded > 200


@pytest.mark.statistical
def test_cubo_agrees_with_its_closed_form():
    mean, covariance = np.array([0.3, -0.2]), np.diag([0.8, 0.9])
    draws = np.random.default_rng(0).normal(size=(100_000, 2))
    found, error = cubo_estimate(normal_log_ratio(draws, mean, covariance) + 7.0)
    assert found == pytest.approx(7.0 + 0.5 * chi_exponent(mean, covariance), abs=MAX_CHANCE * error)


def test_a_good_guide_passes_the_error_bound_and_others_are_undecided():
    draws = np.random.default_rng(0).normal(size=(10_000, 3))
    good = check_error_bound(normal_log_ratio(draws, np.full(3, 0.02), np.eye(3)), draws)
    assert good.passed is True
    assert good.value <= good.limit
    for mean, covariance in ((np.full(3, 0.3), np.eye(3)), (np.zeros(3), np.diag([0.25, 1.0, 1.0]))):
        far = check_error_bound(normal_log_ratio(draws, mean, covariance), draws, list("abc"))
        assert far.passed is None
        assert far.value > far.limit


def test_there_is_no_bound_where_the_second_moment_is_infinite():
    draws = np.random.default_rng(0).normal(size=(10_000, 2))
    check = check_error_bound(normal_log_ratio(draws, np.zeros(2), 9.0 * np.eye(2)), draws)  # half a width: k-hat 0.9
    assert check.passed is None
    assert math.isnan(check.value)
    assert "k-hat" in check.detail


def test_what_cannot_be_bounded_is_no_pass():
    draws = np.random.default_rng(0).normal(size=(500, 2))
    ratios = normal_log_ratio(draws, np.full(2, 0.1), np.eye(2))
    cases = [
        (np.where(np.arange(500) == 3, np.nan, ratios), draws),
        (np.where(np.arange(500) == 3, -np.inf, ratios), draws),
        (ratios, draws * [1.0, 0.0]),
        (ratios, np.where(np.arange(500)[:, None] == 3, np.inf, draws)),
        (ratios[:50], draws[:50]),
    ]
    for log_ratio, points in cases:
        check = check_error_bound(log_ratio, points)
        assert check.passed is None
        assert math.isnan(check.value)
        assert check.detail.startswith("not measured: ")
    with pytest.raises(DataError):
        posterior_error_bounds(ratios[:-1], draws)
    with pytest.raises(DataError):
        posterior_error_bounds(ratios, draws, ["a"])


def test_one_weight_gives_the_elbo():
    ratios = np.random.default_rng(0).normal(size=4_000)
    assert importance_bound(ratios, 1)[0] == pytest.approx(elbo_estimate(ratios)[0], rel=1e-10)


def test_the_bound_of_pairs_is_unbiased_over_all_pairs():
    ratios = np.random.default_rng(0).normal(size=100)
    blocks = np.array_split(ratios, 20)
    exact = np.mean(
        [
            np.mean([math.log(0.5 * (math.exp(a) + math.exp(b))) for a, b in itertools.combinations(block, 2)])
            for block in blocks
        ]
    )
    estimates = [importance_bound(ratios, 2, seed=seed)[0] for seed in range(200)]
    error = np.std(estimates) / math.sqrt(len(estimates))
    assert np.mean(estimates) == pytest.approx(exact, abs=MAX_CHANCE * error)


@pytest.mark.statistical
def test_bounds_rise_to_the_evidence_with_the_stated_error():
    mean, covariance = np.full(2, 0.5), np.eye(2)
    draws = np.random.default_rng(0).normal(size=(40_000, 2))
    ratios = normal_log_ratio(draws, mean, covariance) + 3.0
    bounds = [importance_bound(ratios, num_importance) for num_importance in (1, 4, 64, 1_024)]
    values = [value for value, _ in bounds]
    assert values == sorted(values)
    assert values[-1] < 3.0 + MAX_CHANCE * bounds[-1][1]
    # L_K = log Z - Var(w) / (2 K) + O(K^-2) for normalised weights, whose variance is expm1(|mean|^2)
    expected = 3.0 - math.expm1(0.5) / (2 * 1_024)
    assert values[-1] == pytest.approx(expected, abs=MAX_CHANCE * bounds[-1][1] + 1.0 / 1_024**2 * 10)


@pytest.mark.parametrize(("shift", "passed"), [(0.0, True), (0.02, True), (0.1, None), (0.4, False)])
def test_the_gap_sorts_good_guides_from_bad_ones(shift, passed):
    dim = 10
    draws = np.random.default_rng(0).normal(size=(10_000, dim))
    check = check_gap(normal_log_ratio(draws, np.full(dim, shift), np.eye(dim)), dim)
    assert check.passed is passed
    assert check.value <= 0.5 * dim * shift**2 + MAX_CHANCE * check.mcse + 1e-12  # the divergence of q from p
    assert check.limit == pytest.approx(0.2)


@pytest.mark.statistical
def test_the_gap_fails_no_good_guide():
    dim = 5
    for seed in range(200):
        draws = np.random.default_rng(seed).normal(size=(2_000, dim))
        check = check_gap(normal_log_ratio(draws, np.full(dim, 0.05), np.eye(dim)), dim, seed=seed)
        assert check.passed is True


def test_the_gap_of_half_width_fails():
    draws = np.random.default_rng(0).normal(size=(10_000, 2))
    assert check_gap(normal_log_ratio(draws, np.zeros(2), 4.0 * np.eye(2)), 2).passed is False


def test_a_gap_that_cannot_be_measured_is_no_pass():
    ratios = np.random.default_rng(0).normal(size=1_000)
    for bad in (ratios[:200], np.where(ratios > 3.0, np.nan, ratios), np.where(ratios > 2.0, -np.inf, ratios)):
        check = check_gap(bad, 2)
        assert check.passed is None
        assert math.isnan(check.value)
        assert check.detail.startswith("not measured: ")
    with pytest.raises(DataError):
        check_gap(ratios.reshape(2, -1), 2)
    with pytest.raises(OptionError):
        check_gap(ratios, 0)
    with pytest.raises(OptionError):
        importance_bound(ratios, 0)
