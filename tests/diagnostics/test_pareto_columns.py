import math

import numpy as np
import pytest
from arviz_stats.base import array_stats

from ppl_models.diagnostics import psis_weights
from ppl_models.diagnostics.pareto_columns import khat_columns, psis_columns
from ppl_models.errors import DataError
from ppl_models.inference.pareto_tail import tail_length


def columns(num_draws, seed=1):
    """Exponential tails of shapes from 0 to 1.2, a bounded column, and one shifted by thousands of nats."""
    rng = np.random.default_rng(seed)
    found = rng.exponential(1.0, (num_draws, 14)) * np.linspace(0.1, 1.2, 14) + 0.1 * rng.normal(size=(num_draws, 14))
    found[:, 3] = -found[:, 3]
    found[:, 4] += 3_000.0
    return found


@pytest.mark.parametrize("num_draws", [100, 225, 226, 400, 4_000])
def test_columns_agree_with_one_at_a_time(num_draws):
    ratios = columns(num_draws)
    weights, khat = psis_columns(ratios)
    for column, ratio in enumerate(ratios.T):
        wanted, fitted = psis_weights(ratio)
        np.testing.assert_allclose(khat[column], fitted, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(weights[:, column], wanted, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(khat_columns(ratios), khat)


def test_relative_efficiency_lengthens_the_tail():
    ratios = columns(4_000)
    weights, khat = psis_columns(ratios, relative_efficiency=0.4)
    for column, ratio in enumerate(ratios.T):
        wanted, fitted = array_stats.psislw(-ratio, r_eff=0.4)
        np.testing.assert_allclose(khat[column], fitted, rtol=1e-10)
        np.testing.assert_allclose(weights[:, column], wanted, rtol=1e-9, atol=1e-9)
    assert tail_length(4_000, 0.01) == 800


def test_blocks_do_not_show(monkeypatch):
    ratios = columns(500)
    whole = psis_columns(ratios)
    monkeypatch.setattr("ppl_models.diagnostics.pareto_columns.NUMBERS_AT_ONCE", 1)
    for parts, wanted in zip(psis_columns(ratios), whole, strict=True):
        np.testing.assert_allclose(parts, wanted, rtol=1e-12)


def degenerate():
    rng = np.random.default_rng(2)
    noise = rng.normal(size=1_000)
    atom = np.minimum(noise, 0.5)
    alone = np.concatenate([[3_000.0], noise[1:]])
    zeros = np.where(noise > 1.0, -np.inf, noise)
    few = np.where(np.arange(1_000) < 20, noise, -np.inf)
    tied = np.concatenate([np.zeros(990), np.arange(10.0)])
    return np.stack([np.full(1_000, 2.0), atom, alone, zeros, few, tied, np.full(1_000, 2.0) + 1e-9 * noise], axis=1)


def test_degenerate_columns_are_judged_like_single_ones():
    ratios = degenerate()
    weights, khat = psis_columns(ratios)
    for column, ratio in enumerate(ratios.T):
        wanted, fitted = psis_weights(ratio)
        assert khat[column] == pytest.approx(fitted, rel=1e-10, nan_ok=True), column
        np.testing.assert_allclose(weights[:, column], wanted, rtol=1e-9, atol=1e-9)
    assert khat[0] == khat[1] == 0.0
    assert khat[2] == math.inf


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_column_is_nan_and_leaves_the_others_alone(bad):
    ratios = columns(500)
    spoilt = ratios.copy()
    spoilt[7, 2], spoilt[:, 5] = bad, -np.inf
    weights, khat = psis_columns(spoilt)
    assert np.isnan(khat[[2, 5]]).all()
    assert np.isnan(weights[:, [2, 5]]).all()
    rest = [column for column in range(14) if column not in (2, 5)]
    np.testing.assert_allclose(khat[rest], khat_columns(ratios)[rest], rtol=1e-12)


@pytest.mark.parametrize("ratios", [np.zeros(500), np.zeros((99, 2)), np.zeros((500, 2, 2))])
def test_bad_shapes_are_refused(ratios):
    with pytest.raises(DataError, match="log_ratio"):
        psis_columns(ratios)


def test_no_columns():
    weights, khat = psis_columns(np.zeros((500, 0)))
    assert (weights.shape, khat.shape) == ((500, 0), (0,))
    assert khat_columns(np.zeros((500, 0))).shape == (0,)


def test_ratios_over_hundreds_of_nats_have_a_shape_and_no_nan():
    for spread in (100.0, 230.0, 300.0, 3_000.0):
        ratios = spread * np.random.default_rng(0).normal(size=(2_000, 20))
        smoothed, khat = psis_columns(ratios)
        assert (khat > 10.0).all()
        assert not np.isnan(smoothed).any()
