"""The baseline in folds and halves."""

import math

import numpy as np
import pytest

from ppl_models.diagnostics.null_band import MAX_PARAMETERS, scores

from .samples import matrix


def draws(num_chains, num_draws, num_parameters=3, seed=1):
    return np.random.default_rng(seed).normal(size=(num_chains, num_draws, num_parameters))


def test_folds_keep_neighbours_together_and_scores_are_normal():
    found = scores(matrix(draws(1, 400)), matrix(draws(4, 400, seed=2)), None)
    assert found.fit.shape == (4, 100, 3)
    assert found.baseline.shape == (4, 4, 100, 3)
    ordered = np.argsort(draws(4, 400, seed=2)[1, :, 0])
    assert np.array_equal(np.argsort(found.baseline[1, :, :, 0].ravel(), kind="stable")[50:-50], ordered[50:-50])
    assert abs(found.pooled.mean()) < 1e-10  # ranks are symmetric


@pytest.mark.parametrize(("num_chains", "pieces"), [(1, 4), (2, 4), (3, 6), (4, 4), (5, 5)])
def test_splits_take_half_of_the_chains_in_each_fold(num_chains, pieces):
    found = scores(matrix(draws(1, 400)), matrix(draws(num_chains, 600)), None)
    assert len(found.baseline) == pieces
    splits = found.splits(np.random.default_rng(1))
    assert splits.shape == (10, pieces, 4)
    assert (splits.sum(axis=1) == pieces // 2).all()
    whole = (splits == splits[..., :1]).all(axis=(1, 2))
    assert whole[:3].all()


def test_shrinkage_is_that_of_the_standard_errors():
    """sqrt(1/n + 1/b) over sqrt(4/b)."""
    found = scores(matrix(draws(1, 400)), matrix(draws(4, 400)), None)
    assert found.shrinkage == pytest.approx(math.sqrt(1 / 400 + 1 / 1_600) / math.sqrt(4 / 1_600), rel=1e-10)
    weights = np.tile([0.0, -np.inf], 200)  # half of the draws in each fold
    found = scores(matrix(draws(1, 400)), matrix(draws(4, 400)), weights)
    assert found.shrinkage == pytest.approx(math.sqrt(1 / 200 + 1 / 1_600) / math.sqrt(4 / 1_600), rel=1e-10)


def test_of_many_parameters_those_that_differ_are_kept():
    fit, baseline = draws(1, 400, 500), draws(4, 400, 500, seed=2)
    fit[..., 77] += 3.0
    baseline[..., 5] = 1.0
    found = scores(matrix(fit), matrix(baseline), None)
    assert len(found.labels) == MAX_PARAMETERS
    assert "x[77]" in found.labels
    assert "x[5]" not in found.labels
    assert found.left_out == 300
    assert found.fit.shape[0] * found.fit.shape[1] == 300  # the first quarter has chosen


def test_reasons_why_nothing_is_measured():
    fit, baseline = draws(1, 400), draws(4, 400)
    assert "needs at least 100" in scores(matrix(fit[:, :20]), matrix(baseline), None)
    assert "NaN" in scores(matrix(np.where(fit > 2, np.nan, fit)), matrix(baseline), None)
    assert "effective" in scores(matrix(fit), matrix(baseline), np.linspace(0, 1e4, 400))
    assert "no parameter varies" in scores(matrix(0 * fit), matrix(baseline), None)
