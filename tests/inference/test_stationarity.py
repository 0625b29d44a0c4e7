"""When a fit may stop: rarely too early, and soon enough once it has arrived."""

import numpy as np
import pytest

from ppl_models.inference.stationarity import (
    BLOCKS,
    CHANCE,
    MIN_STEPS,
    SLOWEST_DRIFT,
    block_means,
    drift_of,
    fall_over_blocks,
    gain_between,
    gap_of_blocks,
    has_settled,
    still_falls,
)

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


# Iterates.

NUM_WINDOWS = 2_000


def rhat_of(records):
    """Split R-hat by its definition, of the two halves as chains."""
    size = len(records) // 2
    halves = np.stack([records[-2 * size : -size], records[-size:]])
    within = halves.var(axis=1, ddof=1).mean(axis=0)
    between = size * halves.mean(axis=1).var(axis=0, ddof=1)
    return np.sqrt(((size - 1) * within / size + between / size) / within)


@pytest.mark.parametrize("size", [4, 9, 32])
def test_rhat_is_that_of_the_two_halves(size):
    records = np.random.default_rng(size).normal(size=(size, 3)) * [1e-6, 1.0, 1e6]
    assert drift_of(records, 0.0).rhat == pytest.approx(rhat_of(records).max(), rel=1e-12)


@pytest.mark.statistical
@pytest.mark.parametrize(("size", "parameters"), [(4, 1), (32, 1), (32, 40), (64, 10)])
def test_white_noise_is_above_the_limit_as_often_as_chance_has_it(size, parameters):
    """With no allowance for pace: 1 - (1 - 0.01 / k)^k of the windows, 20 of 2,000, with standard error 4.4."""
    rng = np.random.default_rng(5)
    windows = (drift_of(rng.normal(size=(size, parameters)), 0.0) for _ in range(NUM_WINDOWS))
    above = sum(found.drifting for found in windows)
    expected = NUM_WINDOWS * (1.0 - (1.0 - CHANCE / parameters) ** parameters)
    assert abs(above - expected) < 4.0 * np.sqrt(expected)


def test_drifting_is_rhat_above_its_limit():
    rng = np.random.default_rng(6)
    for shift in np.linspace(0.0, 3.0, 40):
        records = rng.normal(size=(20, 3))
        records[10:, 1] += shift
        found = drift_of(records, 0.0)
        assert found.drifting == (found.rhat > found.limit)


@pytest.mark.parametrize("noise", [0.0, 1.0, 5.0])
@pytest.mark.parametrize("share", [0.05, 0.3, 1.0])
def test_drifts_are_caught_even_under_noise_of_several_times_their_step(share, noise):
    """One of 30 parameters goes on at a share of the pace; the noise is that many times its drift from one to the next.

    Halves of 24 records differ by 24 drifts, with standard error 5 sqrt(2 / 24) = 1.4 of them: t = 17, where the limit
    is 4.
    """
    rng = np.random.default_rng(7)
    pace = 0.7
    drift = share * pace
    for _ in range(50):
        records = noise * drift * rng.normal(size=(48, 30))
        records[:, 11] += drift * np.arange(48)
        assert drift_of(records, pace).drifting


def test_a_drift_slower_than_any_optimisers_counts_for_nothing():
    pace = 0.7
    for share, drifting in ((0.9, False), (1.1, True)):
        records = share * SLOWEST_DRIFT * pace * np.arange(48.0)[:, None]
        found = drift_of(records, pace)
        assert found.drifting == drifting
        assert found.rhat > found.limit


def test_units_do_not_matter():
    rng = np.random.default_rng(8)
    records = rng.normal(size=(20, 3)) + np.arange(20)[:, None] * [0.0, 0.1, 0.2]
    one = drift_of(records, 0.1)
    other = drift_of(1e9 * (records + 1.0), 0.1e9)
    assert one.rhat == pytest.approx(other.rhat, rel=1e-6)
    assert (one.limit, one.drifting) == (other.limit, other.drifting)


def test_constant_parameters_are_steady():
    records = np.repeat([[0.0, 1e9, -3.0]], 20, axis=0)
    found = drift_of(records, 0.1)
    assert not found.drifting
    assert found.rhat < 1.0
    records[::2, 1] *= 1.0 + np.finfo(float).eps  # rounding
    assert not drift_of(records, 0.1).drifting
    moving = np.column_stack([records, np.arange(20)])
    assert drift_of(moving, 0.1).drifting


def test_deterministic_convergence_is_no_drift():
    """Without noise every difference is significant, and R-hat large; what counts is that it is slow."""
    records = 3.0 + 0.95 ** np.arange(32.0)[:, None] * [0.05, -0.01]
    found = drift_of(records, 0.1)
    assert found.rhat > found.limit
    assert not found.drifting
    assert drift_of(records, 0.01).drifting


def test_blocks_leave_the_first_records_out():
    records = np.arange(22.0).reshape(11, 2)
    whole, *parts = block_means(records)
    assert len(parts) == BLOCKS
    np.testing.assert_array_equal(whole, records[3:].mean(axis=0))
    np.testing.assert_array_equal(parts[0], records[3:5].mean(axis=0))
    np.testing.assert_array_equal(parts[-1], records[9:].mean(axis=0))


def losses_of(points, curvature, linear=None, constant=None):
    """Of a quadratic plus, at each evaluation, a linear function and a constant of its own; (point, evaluation)."""
    points = np.asarray(points)
    values = 0.5 * np.einsum("pi,ij,pj->p", points, curvature, points)[:, None]
    if linear is not None:
        values = values + points @ linear + constant
    return values


def test_first_order_terms_cancel_exactly():
    """The gap of a quadratic is half the curvature times the variance of the whole mean, as the quarters give it."""
    rng = np.random.default_rng(9)
    root = rng.normal(size=(3, 3))
    curvature = root @ root.T
    points = block_means(5.0 + rng.normal(size=(40, 3)))
    away = np.asarray(points[1:]) - points[0]
    wanted = 0.5 * np.einsum("pi,ij,pj->", away, curvature, away) / (BLOCKS * (BLOCKS - 1))
    gap, error = gap_of_blocks(losses_of(points, curvature, rng.normal(size=(3, 50)), rng.normal(size=50)))
    assert gap == pytest.approx(wanted, rel=1e-9)
    assert error < 1e-12
    # a drift in the mean's gradient counts in the fall, not in the gap
    steep = 100.0 * rng.normal(size=(3, 1)) @ np.ones((1, 50))
    assert gap_of_blocks(losses_of(points, curvature, steep, 0.0))[0] == pytest.approx(wanted, rel=1e-9)


@pytest.mark.statistical
def test_the_gap_is_what_longer_averaging_would_give():
    """White noise of covariance S around the minimum: half of tr(H S) / n on average, as is the loss of the mean."""
    rng = np.random.default_rng(10)
    curvature, sds = np.diag([1.0, 4.0, 0.25]), np.array([1.0, 0.5, 3.0])
    gaps, above = [], []
    for _ in range(NUM_WINDOWS):
        losses = losses_of(block_means(sds * rng.normal(size=(40, 3))), curvature)
        gaps.append(gap_of_blocks(losses)[0])
        above.append(losses[0, 0])
    wanted = 0.5 * float((curvature.diagonal() * sds**2).sum()) / 40
    for found in (gaps, above):
        assert abs(np.mean(found) - wanted) < 4.0 * np.std(found) / np.sqrt(NUM_WINDOWS)


@pytest.mark.statistical
def test_errors_are_those_of_the_evaluations():
    """Evaluations whose noise the points do not share: the standard error covers the truth, and shrinks with number."""
    rng = np.random.default_rng(11)
    truth = np.array([1.0, 1.4, 1.2, 1.3, 1.7])[:, None]
    for function, wanted in ((gap_of_blocks, 0.4 / 3.0), (fall_over_blocks, -0.2)):
        found = np.array([function(truth + 0.1 * rng.normal(size=(5, 30))) for _ in range(NUM_WINDOWS)])
        assert abs(found[:, 0].mean() - wanted) < 4.0 * found[:, 0].std() / np.sqrt(NUM_WINDOWS)
        assert found[:, 1].mean() == pytest.approx(found[:, 0].std(), rel=0.1)


def test_falls_and_gains_on_common_noise():
    noise = np.random.default_rng(12).normal(size=20)
    losses = np.array([0.0, 5.0, 4.0, 2.0, 1.0])[:, None] + noise
    fall, error = fall_over_blocks(losses)
    assert (fall, error) == (pytest.approx(3.0), pytest.approx(0.0, abs=1e-12))
    gain, error = gain_between(losses[1], losses[4])
    assert (gain, error) == (pytest.approx(4.0), pytest.approx(0.0, abs=1e-12))
    assert gain_between(np.ones(1), np.zeros(1)) == (1.0, np.inf)


def test_a_loss_that_still_falls_is_seen():
    """A ramp of 1e-2 a step under noise of sd 1: halves of 200 steps differ by 2 nats, twenty standard errors."""
    rng = np.random.default_rng(13)
    for _ in range(100):
        noise = rng.normal(size=400)
        assert still_falls(noise - 1e-2 * np.arange(400), 0.01)
        assert not still_falls(noise + 1e-2 * np.arange(400), 0.01)
        assert not still_falls(noise - 1e-2 * np.arange(400), 3.0)


@pytest.mark.statistical
def test_a_steady_loss_seldom_seems_to_fall():
    """Three standard errors of batch means, 18 degrees of freedom: 0.4 % of windows, 7.7 of 2,000."""
    rng = np.random.default_rng(14)
    falls = sum(still_falls(1e6 + rng.normal(size=200), 0.0) for _ in range(NUM_WINDOWS))
    assert falls < 7.7 + 4.0 * np.sqrt(7.7)
