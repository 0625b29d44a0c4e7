"""A fit beside a weighted pool: marginals and combinations, right ones and planted faults."""

import numpy as np
import pytest
from scipy.stats import norm
from scipy.stats import t as student_t

from ppl_models.diagnostics import check_joint_with_pool, compare_with_pool, moment_checks

from .samples import dataset

NUM_DRAWS = 10_000


def fit_draws(rng, scale=1.0, shift=0.0, correlation=0.0):
    noise = rng.standard_normal((NUM_DRAWS, 4))
    noise[:, 1] = correlation * noise[:, 0] + np.sqrt(1 - correlation**2) * noise[:, 1]
    noise[:, 0] = shift + scale * noise[:, 0]
    return dataset(noise[None, :, 0], noise[None, :, 1:])


def pool(rng):
    """Draws of t's weighted to standard normals."""
    values = rng.standard_t(5, size=(12_000, 4))
    return values, (norm.logpdf(values) - student_t.logpdf(values, 5)).sum(axis=1)


def test_right_draws_pass_at_the_stated_rate():
    rng = np.random.default_rng(1)
    failed = 0
    for _ in range(40):
        table = compare_with_pool(fit_draws(rng), *pool(rng))
        failed += any(check.passed is not True for check in moment_checks(table, "pool"))
    assert failed == 0  # errors are ten times below the limits


@pytest.mark.parametrize(
    ("fault", "column", "truth"),
    [
        ({"scale": 0.5}, "log_sd_ratio", np.log(0.5)),
        ({"shift": 0.5}, "mean_error_sd", 0.5),
        ({"scale": 1.5}, "log_sd_ratio", np.log(1.5)),
    ],
)
def test_planted_fault_is_measured_and_fails(fault, column, truth):
    rng = np.random.default_rng(2)
    table = compare_with_pool(fit_draws(rng, **fault), *pool(rng))
    assert abs(table[column].iloc[0] - truth) < 4 * table[f"{column}_mcse"].iloc[0]
    assert any(check.passed is False for check in moment_checks(table, "pool"))


def test_errors_are_honest():
    """The spread of the figures over repetitions is their stated error, within that of a spread of 60."""
    rng = np.random.default_rng(3)
    tables = [compare_with_pool(fit_draws(rng), *pool(rng)) for _ in range(60)]
    for column in ("mean_error_sd", "log_sd_ratio"):
        values = np.array([table[column].to_numpy() for table in tables])
        stated = np.array([table[f"{column}_mcse"].to_numpy() for table in tables]).mean()
        assert abs(np.log(values.std() / stated)) < 4 / np.sqrt(2 * values.size)


def test_joint_against_a_pool():
    rng = np.random.default_rng(4)
    assert check_joint_with_pool(fit_draws(rng), *pool(rng)).passed is True
    assert check_joint_with_pool(fit_draws(rng, correlation=0.9), *pool(rng)).passed is False


def test_weights_of_the_fit_judge_the_corrected_fit():
    rng = np.random.default_rng(5)
    draws = fit_draws(rng, scale=1.5)
    first = draws[next(iter(draws.data_vars))].to_numpy()[0]
    log_weights = norm.logpdf(first) - norm.logpdf(first, scale=1.5)
    table = compare_with_pool(draws, *pool(rng), log_weights=log_weights)
    assert all(check.passed is True for check in moment_checks(table, "pool"))
