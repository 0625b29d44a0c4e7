"""When a fit may stop: rarely too early, and soon enough once it has arrived."""

import numpy as np
import pytest

from ppl_models.inference.stationarity import MIN_STEPS, has_settled

NUM_TRACES = 200
CHECKS = range(300, 2_001, 50)


def first_stop(losses):
    """The step at which a fit with these losses would stop, checked every 50 steps; None if never."""
    return next((step for step in CHECKS if has_settled(losses[:step])), None)


def test_constant_loss_has_settled_at_the_first_look():
    assert first_stop(np.full(2_000, 3.0)) == MIN_STEPS
    assert not has_settled(np.full(MIN_STEPS - 1, 3.0))


def test_noiseless_ramp_settles_where_it_is_flat_to_the_tolerance():
    # 0.2 nats in a thousand steps are 2e-4 a step, however long the trace
    assert first_stop(-2.1e-4 * np.arange(2_000)) is None
    # the ramp within each window counts as error too, so that half the tolerance settles and nine tenths do not yet
    assert first_stop(-1e-4 * np.arange(2_000)) == MIN_STEPS


def test_a_constant_added_to_the_loss_changes_nothing():
    rng = np.random.default_rng(4)
    noisy = 0.05 * rng.normal(size=2_000)
    for trace in (noisy, noisy - 1e-3 * np.arange(2_000)):
        assert first_stop(trace) == first_stop(trace + 1e6)


@pytest.mark.statistical
@pytest.mark.parametrize(("slope", "noise"), [(2e-4, 0.3), (5e-4, 0.05), (1e-3, 0.05)])
def test_slow_ramp_under_noise_is_seldom_taken_for_the_end(slope, noise):
    """A ramp of at least the tolerance needs a fall seen three standard errors below the true one.

    With ten batches to a window the statistic has 9 to 18 degrees of freedom: 0.75 % at one look at most. 35 looks at a
    ramp of just the tolerance stop at most 23 % of the traces, and fewer as looks overlap; 46 of 200, with standard
    error 6.
    """
    rng = np.random.default_rng(0)
    stops = [first_stop(-slope * np.arange(2_000) + noise * rng.normal(size=2_000)) for _ in range(NUM_TRACES)]
    assert sum(stop is not None for stop in stops) <= 46 + 3 * 6


@pytest.mark.statistical
def test_settled_loss_under_noise_is_seen():
    """White noise of sd 0.05 at 600 steps: one error of the fall is 0.0058, the tolerance 0.03: z < 2.2, or 98.6 %.

    Five looks of growing power come before and none is needed after; more than 12 misses of 200, where 3 are expected
    of the last look alone, have probability below 1e-4.
    """
    rng = np.random.default_rng(1)
    stops = [first_stop(0.05 * rng.normal(size=2_000)) for _ in range(NUM_TRACES)]
    assert sum(stop is None or stop > 600 for stop in stops) <= 12


@pytest.mark.statistical
def test_noise_that_hides_the_tolerance_is_not_settled():
    """White noise of sd 2 at 2,000 steps: one error is 0.126 nats, the tolerance 0.1: a stop needs z < -2.2 (2 %)."""
    rng = np.random.default_rng(2)
    looks = [has_settled(2.0 * rng.normal(size=2_000)) for _ in range(NUM_TRACES)]
    assert np.mean(looks) < 0.02 + 4 * np.sqrt(0.02 * 0.98 / NUM_TRACES)


def test_autocorrelated_noise_is_not_taken_for_precision():
    """Batch means see the correlation: the same marginal noise, correlated over 50 steps, is not settled."""
    rng = np.random.default_rng(3)
    blocks = np.repeat(0.3 * rng.normal(size=(50, 40)), 50, axis=1)
    white = 0.3 * rng.normal(size=(50, 2_000)) / np.sqrt(50)
    assert sum(has_settled(trace) for trace in blocks) < sum(has_settled(trace) for trace in white) / 2
