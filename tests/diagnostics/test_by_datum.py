"""Local normals of three dimensions: q_i = N(m, s² v) of the posterior N(m, v) has k-hat 1 - s² in every datum."""

import math

import numpy as np
import pytest

from ppl_models.diagnostics import check_khat_by_datum, khat_by_datum, khat_limit
from ppl_models.errors import DataError

NUM_DRAWS = 4_000


def log_ratios(rng, widths, num_draws=NUM_DRAWS, num_dims=3):
    """Log p - log q of draws of q, shape (draw, datum)."""
    squared = rng.chisquare(num_dims, size=(num_draws, len(widths)))
    return 0.5 * (1.0 - np.square(widths)) * squared + num_dims * np.log(widths)


def names(number):
    return [f"row[{i}]" for i in range(number)]


@pytest.mark.statistical
@pytest.mark.parametrize("width", [0.9, 0.7, 0.5])
def test_khat_is_one_minus_the_squared_width(width):
    """In three dimensions the local shape of the ratios' tail is k times 1 + 1 / t² at most, t the cutoff in sd."""
    khat = khat_by_datum(log_ratios(np.random.default_rng(1), np.full(300, width), num_draws=20_000))
    wanted = 1.0 - width**2
    num_tail = 424
    shrunk = (num_tail * wanted + 10 * 0.5) / (num_tail + 10)
    error = khat.std(ddof=1) / math.sqrt(len(khat))
    # the tail's log density is that of chi-square: its slope is off by a tenth of k at a cutoff of 3.7 sd
    assert abs(khat.mean() - shrunk) < 4 * error + 0.1 * wanted + 5 * (1 + wanted) / num_tail


def test_data_with_half_the_width_are_named():
    widths = np.full(200, 0.95)
    planted = [3, 77, 150]
    widths[planted] = 0.35
    check = check_khat_by_datum(log_ratios(np.random.default_rng(2), widths), names(200), where="row")
    assert check.passed is False
    assert check.name == "k-hat by datum (row)"
    assert check.detail.startswith("3 of 200 beyond the limit of 0.70")
    assert all(f"row[{i}]" in check.detail for i in planted)
    assert check.advice


@pytest.mark.statistical
def test_power_against_half_widths():
    """Half the width has k = 0.75, hardly beyond the limit: five such data among 100 are not passed, 19 times in 20."""
    widths = np.full(100, 0.95)
    widths[:5] = 0.5
    rng = np.random.default_rng(3)
    found = [check_khat_by_datum(log_ratios(rng, widths), names(100)) for _ in range(40)]
    assert sum(check.passed is True for check in found) <= 2


@pytest.mark.statistical
@pytest.mark.parametrize(("number", "width", "most"), [(150, 0.95, 0), (150, 0.8, 2), (8, 0.8, 2)])
def test_rate_of_false_alarms(number, width, most):
    """At most one in a hundred by the largest and one by the number: of 25 more than 2 has a chance of 0.01."""
    rng = np.random.default_rng(4)
    failed = sum(
        check_khat_by_datum(log_ratios(rng, np.full(number, width)), names(number)).passed is False for _ in range(25)
    )
    assert failed <= most


def test_all_data_too_narrow_is_a_failure_though_none_stands_out():
    for number in (1, 8, 200):
        check = check_khat_by_datum(log_ratios(np.random.default_rng(5), np.full(number, 0.35)), names(number))
        assert check.passed is False


def test_few_beyond_the_limit_by_chance_are_not_resolved():
    """With k = 0.4 and 400 draws a k-hat has an error of 0.17: some of 100 pass 0.62."""
    ratios = np.random.default_rng(6).exponential(0.4, (400, 100))
    check = check_khat_by_datum(ratios, names(100))
    assert check.value > check.limit == khat_limit(400)
    assert check.passed is None
    assert "no more than chance gives" in check.detail
    assert check.advice == "raise num_draws"


def test_exact_data_pass():
    check = check_khat_by_datum(np.full((500, 4), 1.5), names(4))
    assert (check.value, check.passed) == (0.0, True)


def test_error_is_that_of_one_fit():
    ratios = np.random.default_rng(7).exponential(0.3, (NUM_DRAWS, 500))
    spread = khat_by_datum(ratios).std(ddof=1)
    reported = check_khat_by_datum(ratios[:, :1], names(1)).mcse
    assert abs(reported / spread - 1.0) < 4.0 / math.sqrt(1_000) + 3.0 * reported / 1.3


def test_data_without_a_density_are_never_a_pass():
    ratios = log_ratios(np.random.default_rng(8), np.full(20, 0.95))
    ratios[5, 3] = np.nan
    check = check_khat_by_datum(ratios, names(20))
    assert check.passed is None
    assert "1 not measured" in check.detail
    ratios[:] = np.nan
    check = check_khat_by_datum(ratios, names(20))
    assert math.isnan(check.value)
    assert check.passed is None
    assert check.detail.startswith("not measured")


def test_one_draw_that_carries_all_the_weight_fails():
    ratios = log_ratios(np.random.default_rng(9), np.full(20, 0.95))
    ratios[0, 4] = 5_000.0
    check = check_khat_by_datum(ratios, names(20))
    assert (check.value, check.passed) == (math.inf, False)
    assert "row[4] inf" in check.detail


@pytest.mark.parametrize("ratios", [np.zeros((99, 3)), np.zeros((500, 0))])
def test_too_little_to_measure(ratios):
    check = check_khat_by_datum(ratios, names(ratios.shape[1]))
    assert math.isnan(check.value)
    assert check.passed is None


@pytest.mark.parametrize(("ratios", "labels"), [(np.zeros(500), ["a"]), (np.zeros((500, 3)), ["a", "b"])])
def test_bad_input_is_refused(ratios, labels):
    with pytest.raises(DataError):
        check_khat_by_datum(ratios, labels)


def test_data_with_nearly_constant_weights_count_as_within_and_are_named():
    ratios = 0.001 * np.random.default_rng(10).normal(size=(2_000, 5)) ** 3
    ratios[7, 2] = math.log(200.0)
    check = check_khat_by_datum(ratios, names(5))
    assert "4 of 5 have nearly constant weights" in check.detail
    assert "row[2]" in check.detail
    assert (khat_by_datum(ratios)[[0, 1, 3, 4]] == 0.0).all()
