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
    # windows a quarter of the trace apart differ by slope * steps / 4: at 300 steps, 0.02 nats are 2.7e-4 a step
    assert first_stop(-1e-3 * np.arange(2_000)) is None
    assert first_stop(-2e-4 * np.arange(2_000)) == MIN_STEPS


def test_tolerance_is_relative_for_large_losses():
    ramp = -1e-3 * np.arange(2_000)
    assert first_stop(1e6 + ramp) == MIN_STEPS


@pytest.mark.statistical
@pytest.mark.parametrize("slope", [5e-4, 1e-3])
def test_slow_ramp_under_noise_is_seldom_taken_for_the_end(slope):
    """At slope 5e-4 a stop at 300 steps needs fall + error below 0.02 where it is 0.0375 + 0.008: z < -3.1, or 0.1 %.

    Every later look needs z < -4, where 35 looks add less than 0.1 %. So 200 traces hold 0.4 false stops on average;
    more than 4 have probability 1e-4.
    """
    rng = np.random.default_rng(0)
    stops = [first_stop(-slope * np.arange(2_000) + 0.05 * rng.normal(size=2_000)) for _ in range(NUM_TRACES)]
    assert sum(stop is not None for stop in stops) <= 4


@pytest.mark.statistical
def test_settled_loss_under_noise_is_seen():
    """White noise of sd 0.05: at 300 steps the error of the fall is 0.008, and fall + error < 0.02 at z < 1.4.

    Nearly every trace stops within 600 steps, where the error is 0.0058 and z < 2.4 (probability 0.99); 200 traces of
    probability 0.99 miss more than 8 times with probability below 1e-3.
    """
    rng = np.random.default_rng(1)
    stops = [first_stop(0.05 * rng.normal(size=2_000)) for _ in range(NUM_TRACES)]
    assert sum(stop is None or stop > 600 for stop in stops) <= 8


@pytest.mark.statistical
def test_noise_that_hides_the_tolerance_is_never_settled_for_sure():
    """White noise of sd 2 leaves an error of 0.13 nats at 2,000 steps: a stop needs a rise of 0.8 errors or more.

    It stops by luck in some traces, but no sooner than the noise allows: P(z < -0.8) at one look is 0.21.
    """
    rng = np.random.default_rng(2)
    looks = [has_settled(2.0 * rng.normal(size=2_000)) for _ in range(NUM_TRACES)]
    assert np.mean(looks) < 0.21 + 5 * np.sqrt(0.21 * 0.79 / NUM_TRACES)


def test_autocorrelated_noise_is_not_taken_for_precision():
    """Batch means see the correlation: the same marginal noise, correlated over 50 steps, is not settled."""
    rng = np.random.default_rng(3)
    blocks = np.repeat(0.3 * rng.normal(size=(50, 40)), 50, axis=1)
    white = 0.3 * rng.normal(size=(50, 2_000)) / np.sqrt(50)
    assert sum(has_settled(trace) for trace in blocks) < sum(has_settled(trace) for trace in white) / 2
