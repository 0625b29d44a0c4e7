import math

import numpy as np
import pytest

from ppl_models.diagnostics import check_predictive, tail_probability
from ppl_models.errors import DataError

Z = 4.0


def replicates(statistic, seed, *, num_data=50, num_draws=1_000):
    """A statistic of normal data and of replicates from the posterior of their mean (flat prior, known sd)."""
    rng = np.random.default_rng(seed)
    data = rng.normal(size=num_data)
    means = data.mean() + rng.normal(size=num_draws) / math.sqrt(num_data)
    return data, statistic(means[:, None] + rng.normal(size=(num_draws, num_data)))


def spread(values):
    return values.std(axis=-1, ddof=1)


@pytest.mark.parametrize("observed", [-1.0, 0.0, 0.3, 2.5])
def test_probability_of_known_replicates(observed):
    """Of N(0, 1) replicates: 2 min(F, 1 - F), within the stated error."""
    values = np.random.default_rng(1).normal(size=100_000)
    found, error = tail_probability(observed, values)
    below = 0.5 * (1.0 + math.erf(observed / math.sqrt(2.0)))
    wanted = 2.0 * min(below, 1.0 - below)
    assert abs(found - wanted) < Z * error + 1e-5
    assert error == pytest.approx(2.0 * math.sqrt(below * (1.0 - below) / 100_000), rel=0.05)


def test_ties_count_half():
    values = np.repeat([0.0, 1.0, 2.0], [200, 600, 200])
    assert tail_probability(1.0, values)[0] == pytest.approx(1.0)
    assert tail_probability(0.0, values)[0] == pytest.approx(2.0 * 100.5 / 1_001)
    assert tail_probability(2.0, values)[0] == pytest.approx(2.0 * 100.5 / 1_001)


def test_error_with_ties_is_the_spread_over_repetitions():
    rng = np.random.default_rng(2)
    found = [tail_probability(1.0, rng.choice(3, p=[0.3, 0.3, 0.4], size=400)) for _ in range(2_000)]
    values, errors = np.array(found).T
    assert abs(errors.mean() / values.std(ddof=1) - 1.0) < Z / math.sqrt(4_000) + 1.0 / 400


def test_nothing_beyond_all_replicates_is_impossible():
    probability, error = tail_probability(10.0, np.random.default_rng(3).normal(size=1_000))
    assert 0.0 < probability < 0.002
    assert error > 0.0


@pytest.mark.parametrize(("factor", "side"), [(1.8, "larger"), (0.5, "smaller")])
def test_wrong_spread_is_found_and_named(factor, side):
    data, values = replicates(spread, 4)
    check = check_predictive("sd of 'y'", factor * spread(data), values)
    assert check.passed is False
    assert check.advice == f"a model whose data can have a {side} sd"
    assert check.name == "predictive sd of 'y'"


@pytest.mark.statistical
def test_rate_of_false_alarms():
    """A known sd does not bend to the data: its check fails 1 in 100, and 300 have 10 with a chance of 0.001."""
    failed = 0
    for seed in range(300):
        data, values = replicates(spread, seed)
        failed += check_predictive("sd", spread(data), values).passed is False
    assert failed <= 9


@pytest.mark.statistical
def test_statistic_that_the_fit_matches_never_fails():
    """The mean is what was fitted: replicates centre on it, and the probability is near one."""
    for seed in range(50):
        data, values = replicates(lambda v: v.mean(axis=-1), seed)
        assert check_predictive("mean", data.mean(), values).value > 0.8


def test_near_the_limit_is_not_resolved():
    values = np.arange(1_000.0)
    check = check_predictive("sd", 995.5, values)
    assert check.passed is None
    assert check.advice == "raise num_draws"


@pytest.mark.parametrize(
    ("observed", "values", "words"),
    [
        (0.0, np.zeros(99), "99 draws"),
        (math.nan, np.arange(500.0), "statistic of the data is nan"),
        (0.0, np.where(np.arange(500) < 3, np.nan, 1.0), "3 of 500"),
        (1.0, np.ones(500), "every replicate"),
    ],
)
def test_what_cannot_be_measured_is_no_pass(observed, values, words):
    check = check_predictive("sd", observed, values)
    assert check.passed is None
    assert math.isnan(check.value)
    assert words in check.detail


def test_constant_replicates_of_another_value_fail():
    assert check_predictive("zeros", 0.3, np.zeros(1_000)).passed is False


def test_bad_shapes_are_refused():
    for wrong in (lambda: check_predictive("sd", 0.0, np.zeros((500, 2))), lambda: tail_probability(0.0, np.zeros(0))):
        with pytest.raises(DataError, match="replicated"):
            wrong()
