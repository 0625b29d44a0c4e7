import math

import numpy as np
import pytest

from ppl_models.diagnostics import check_arrival, check_stationarity, check_status
from ppl_models.diagnostics.optimisation import ABSOLUTE_LIMIT
from ppl_models.errors import DataError

from .samples import autoregressive


def noise(seed, num_steps, correlation=0.0):
    return autoregressive(np.random.default_rng(seed), (1, num_steps), correlation)[0]


def test_value_is_the_difference_of_window_means():
    losses = np.repeat([40.0, 30.0, 20.0, 10.0], 50)
    check = check_stationarity(losses)
    assert check.value == pytest.approx(10.0, rel=1e-12)
    assert check.passed is False
    assert "max_steps" in check.advice


def test_constant_loss_passes():
    assert check_stationarity(np.full(1_000, 123.0)).passed is True


def test_noiseless_ramp_fails():
    assert check_stationarity(np.linspace(100.0, 50.0, 2_000)).passed is False


@pytest.mark.parametrize("correlation", [0.0, 0.9])
def test_stopped_early_fails(correlation):
    """Decay with a time constant of 1,000 steps stopped after 2,000: about 3.5 nats are gained between the windows."""
    for seed in range(20):
        losses = 100 + 40 * np.exp(-np.arange(2_000) / 1_000) + noise(seed, 2_000, correlation)
        assert check_stationarity(losses).passed is False


def test_converged_passes():
    losses = 100 + 40 * np.exp(-np.arange(10_000) / 500) + noise(3, 10_000)
    assert check_stationarity(losses).passed is True


def test_range_selects_the_phase():
    losses = np.concatenate([np.linspace(500.0, 100.0, 1_000), np.full(1_000, 100.0)])
    assert check_stationarity(losses, stop=1_000).passed is False
    assert check_stationarity(losses, start=1_000).passed is True


def test_rising_loss_fails():
    check = check_stationarity(np.linspace(10.0, 50.0, 1_000) + noise(4, 1_000))
    assert check.passed is False
    assert "rises" in check.advice


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_loss_fails(bad):
    losses = noise(5, 500)
    losses[123] = bad
    check = check_stationarity(losses)
    assert check.passed is False
    assert "step 123" in check.detail


def test_too_short_is_not_measured():
    assert check_stationarity(np.ones(99)).passed is None
    assert check_stationarity([]).passed is None


def test_wrong_shape():
    with pytest.raises(DataError, match="particles"):
        check_stationarity(np.ones((10, 10)))


@pytest.mark.parametrize("constant", [-1e6, 5e4, 1e6])
def test_normalising_constant_does_not_matter(constant):
    """Gains of 2 nats at any level of the loss are seen; losses that are flat pass at any level."""
    ramp, flat = np.repeat([3.0, 2.0, 2.0, 0.0], 100) + 0.1 * noise(6, 400), 0.1 * noise(7, 400)
    for losses, passed in ((ramp, False), (flat, True)):
        for moved in (losses, losses + constant):
            check = check_stationarity(moved)
            assert check.passed is passed
            assert check.limit == pytest.approx(0.1, rel=0.02)
            assert check.value == pytest.approx(check_stationarity(losses).value, abs=1e-8)


def test_single_precision_is_coarser():
    assert check_stationarity(np.full(500, -50_000.0), single_precision=True).limit == pytest.approx(0.15)


@pytest.mark.parametrize("correlation", [0.0, 0.5])
def test_flat_but_noisy_is_unknown(correlation):
    """A noise of 20 nats leaves an error of 1 nat: nothing is known to a tenth of a nat."""
    found = [check_stationarity(100 + 20 * noise(seed, 2_000, correlation)).passed for seed in range(40)]
    assert True not in found
    assert found.count(None) >= 36


def test_unresolved_improvement_is_never_a_pass():
    for seed in range(20):
        losses = np.repeat([1.0, 1.0, 1.0, 0.0], 250) + 20 * noise(seed, 1_000)
        check = check_stationarity(losses)
        assert check.passed is not True
        assert check.passed is False or "too noisy" in check.detail


@pytest.mark.statistical
def test_quiet_and_flat_passes():
    """A noise of 0.5 nats leaves an error of 0.03 nats over 1,000 steps: 0.1 is three errors, two of them reserved."""
    found = [check_stationarity(100 + 0.5 * noise(seed, 4_000)).passed for seed in range(100)]
    assert found.count(False) == 0
    assert found.count(True) >= 90


@pytest.mark.statistical
@pytest.mark.parametrize(
    ("correlation", "num_steps", "nominal"), [(0.0, 2_000, 0.03), (0.5, 2_000, 0.03), (0.9, 4_000, 0.05)]
)
def test_rate_of_false_alarms(correlation, num_steps, nominal):
    """Two standard errors are passed by chance in 2.3 %, three the other way in 0.1 %; more where the noise is long."""
    num_traces = 200
    alarms = sum(
        check_stationarity(100 + 20 * noise(seed, num_steps, correlation)).passed is False for seed in range(num_traces)
    )
    assert alarms <= num_traces * nominal + 3 * math.sqrt(num_traces * nominal)


@pytest.mark.parametrize(
    ("status", "passed"), [("converged", True), ("max_steps", True), ("diverged", False), ("non_finite", False)]
)
def test_status(status, passed):
    check = check_status(status)
    assert check.passed is passed
    assert bool(check.advice) is not passed


@pytest.mark.parametrize(
    ("gain", "error", "gap", "passed"),
    [
        (0.001, 0.001, 0.001, True),
        (0.0, 0.0, 0.0, True),
        (-0.02, 0.001, -0.001, True),  # chance alone makes either negative
        (0.09, 0.001, 0.0, True),
        (0.2, 0.001, 0.0, False),
        (0.0, 0.001, 0.2, False),
        (0.06, 0.0, 0.06, False),
        (0.01, 0.05, 0.0, False),
        (-5.0, 0.0, 0.2, False),  # a loss does not pay for a gap
        (math.nan, 0.001, 0.001, False),
        (0.001, math.nan, 0.001, False),
        (0.001, math.inf, 0.001, False),
        (math.inf, 0.0, 0.0, False),
    ],
)
def test_arrival(gain, error, gap, passed):
    check = check_arrival(gain, error, gap)
    assert check.name == "stationarity"
    assert check.passed is passed
    assert bool(check.advice) is not passed
    assert check.limit == ABSOLUTE_LIMIT


def test_arrival_is_as_content_as_the_fit_was():
    assert check_arrival(0.3, 0.01, 0.0, tolerance=0.33).passed is True
    assert check_arrival(0.7, 0.01, 0.0, tolerance=0.33).passed is False


def test_arrival_keeps_its_evidence():
    check = check_arrival(0.03, 0.004, 0.02)
    assert check.value == pytest.approx(0.05, rel=1e-12)
    assert check.mcse == 0.004
    assert "0.03 nats" in check.detail
    assert "0.02" in check.detail


def test_running_out_of_time_is_no_failure_of_the_optimiser():
    assert check_status("out_of_time").passed is True
    assert check_status("interrupted").passed is False
