"""Each check of calibration passes for exact posteriors at its rate, and fails for what it is there to see."""

import numpy as np
import pytest

from ppl_models.diagnostics import check_coverage, check_refits, check_sbc, check_vsbc, coverage_table
from ppl_models.diagnostics.calibration.symmetry import excursion_tail
from ppl_models.errors import DataError, OptionError

CHECKS = {"SBC": check_sbc, "coverage": check_coverage, "VSBC": check_vsbc}
NUM_SIMULATIONS, NUM_DRAWS = 200, 99
LABELS = ("mu", "theta[Choate]", "log joint density")


def ranks_of(width=1.0, shift=0.0, *, seed=0, quantities=3, simulations=NUM_SIMULATIONS):
    """Ranks where the posterior is a standard normal, and the draws have another width and centre."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(simulations, quantities))
    draws = shift + width * rng.normal(size=(NUM_DRAWS, simulations, quantities))
    return (draws < truth).sum(axis=0)


@pytest.mark.parametrize("name", CHECKS)
def test_exact_posteriors_pass(name):
    found = CHECKS[name](ranks_of(), NUM_DRAWS, LABELS)
    assert found.name == name
    assert found.passed is True
    assert found.value >= found.limit == 0.05
    assert not found.advice


@pytest.mark.statistical
@pytest.mark.parametrize("name", CHECKS)
def test_false_alarms_are_as_rare_as_stated(name):
    repeats, rate = 400, 0.1
    failed = sum(
        CHECKS[name](ranks_of(seed=10 + seed, simulations=60), NUM_DRAWS, LABELS, false_alarm_rate=rate).passed is False
        for seed in range(repeats)
    )
    assert failed / repeats <= rate + 4.0 * np.sqrt(rate * (1.0 - rate) / repeats)
    assert failed > 0  # and the rate is not bought by never failing


def test_half_width_fails_sbc_and_coverage_and_passes_vsbc():
    ranks = ranks_of(width=0.5)
    sbc, coverage, vsbc = (check(ranks, NUM_DRAWS, LABELS) for check in CHECKS.values())
    assert sbc.passed is False
    assert "too narrow" in sbc.detail
    assert coverage.passed is False
    assert "too narrow" in coverage.detail
    assert vsbc.passed is True
    assert "too narrow or too wide pass" in vsbc.detail


def test_double_width_is_named():
    sbc, coverage, vsbc = (check(ranks_of(width=2.0), NUM_DRAWS, LABELS) for check in CHECKS.values())
    assert "too wide" in sbc.detail
    assert sbc.passed is False
    assert "too wide" in coverage.detail
    assert coverage.passed is False
    assert vsbc.passed is True


@pytest.mark.parametrize(("shift", "words"), [(0.8, "biased high"), (-0.8, "biased low")])
def test_a_shifted_centre_fails_sbc_and_vsbc(shift, words):
    for check in (check_sbc, check_vsbc):
        found = check(ranks_of(shift=shift), NUM_DRAWS, LABELS)
        assert found.passed is False
        assert words in found.detail


@pytest.mark.parametrize("name", CHECKS)
def test_the_worst_quantity_is_named(name):
    ranks = ranks_of()
    ranks[:, 1] = ranks_of(width=0.4, shift=1.0)[:, 1]
    assert "`theta[Choate]`" in CHECKS[name](ranks, NUM_DRAWS, LABELS).detail


@pytest.mark.parametrize("name", CHECKS)
def test_few_simulations_measure_nothing(name):
    found = CHECKS[name](ranks_of(simulations=19), NUM_DRAWS, LABELS)
    assert found.passed is None
    assert np.isnan(found.value)
    assert found.detail.startswith("not measured: 19 simulations")


@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.parametrize(
    "ranks",
    [
        np.zeros(5, int),
        np.zeros((30, 2), int),
        np.zeros((30, 3)),
        np.full((30, 3), -1),
        np.full((30, 3), NUM_DRAWS + 1),
    ],
)
def test_wrong_ranks_are_refused(name, ranks):
    with pytest.raises(DataError, match="ranks"):
        CHECKS[name](ranks, NUM_DRAWS, LABELS)


def test_rates_are_between_0_and_1():
    with pytest.raises(OptionError, match="false_alarm_rate"):
        check_sbc(ranks_of(), NUM_DRAWS, LABELS, false_alarm_rate=1.0)


def test_coverage_counts_what_intervals_hold():
    ranks = np.repeat([0, 24, 25, 50, 75, 76], 10)[:, None]  # of 0 to 99 + 1: the 50 % interval is 25 to 74
    table = coverage_table(ranks, 99, ["x"], levels=(0.5, 0.9))
    assert table["level"].tolist() == [0.5, 0.9]
    assert table["coverage"].tolist() == pytest.approx([20 / 60, 50 / 60])
    assert (table["lower"] < table["coverage"]).all()
    assert (table["coverage"] < table["upper"]).all()


def test_the_coverage_of_exact_posteriors_is_in_its_interval():
    table = coverage_table(ranks_of(simulations=1_000), NUM_DRAWS, LABELS, probability=1.0 - 0.01 / 12)
    assert len(table) == 12
    assert table["level"].between(table["lower"], table["upper"]).all()


@pytest.mark.parametrize(("excursion", "steps"), [(1, 5), (3, 7), (4, 4), (10, 100), (45, 500)])
def test_excursions_of_a_walk(excursion, steps):
    inside = np.zeros(2 * excursion - 1)
    inside[excursion - 1] = 1.0
    for _ in range(steps):
        inside = 0.5 * (np.append(inside[1:], 0.0) + np.append(0.0, inside[:-1]))
    assert excursion_tail(excursion, steps) == pytest.approx(1.0 - inside.sum(), rel=1e-10)


def test_refits_that_fail_are_counted():
    good = check_refits(["converged"] * 97 + ["max_steps"] * 3)
    assert good.passed is True
    assert good.value == 0.03
    bad = check_refits(["converged"] * 90 + ["failed"] * 6 + ["max_steps"] * 4, note="it broke")
    assert bad.passed is False
    assert "6 failed, 4 max_steps" in bad.detail
    assert "it broke" in bad.detail
    assert check_refits([]).passed is None
