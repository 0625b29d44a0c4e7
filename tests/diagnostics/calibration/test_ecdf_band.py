"""The distribution behind bands and p-values is that of enumeration, and of simulation."""

import itertools

import numpy as np
import pytest
from scipy.stats import binom

from ppl_models.diagnostics import ecdf_band
from ppl_models.diagnostics.calibration import ecdf_p_values
from ppl_models.diagnostics.calibration.ecdf_band import thresholds


def _smallest_tail(counts, number, probabilities):
    below, above = binom.cdf(counts, number, probabilities), binom.sf(counts - 1, number, probabilities)
    return np.minimum(below, above).min(axis=-1)


def test_p_values_are_those_of_enumeration():
    number, num_draws = 5, 3
    cuts = np.arange(1, num_draws + 1)
    probabilities = cuts / (num_draws + 1)
    every = np.array(list(itertools.product(range(num_draws + 1), repeat=number)))
    counts = (every[:, :, None] < cuts).sum(axis=1)
    tails = _smallest_tail(counts, number, probabilities)
    wanted = np.array([(tails <= tail * (1 + 1e-9)).mean() for tail in tails])
    np.testing.assert_allclose(ecdf_p_values(counts, number, probabilities), wanted, rtol=1e-10)


def test_band_is_that_of_enumeration():
    number, cuts = 6, np.array([1, 2])
    probabilities = cuts / 3
    every = np.array(list(itertools.product(range(3), repeat=number)))
    counts = (every[:, :, None] < cuts).sum(axis=1)
    low, high = ecdf_band(number, probabilities, probability=0.9)
    inside = ((counts >= low) & (counts <= high)).all(axis=1).mean()
    assert inside >= 0.9
    # The next narrower band, without the likeliest of the counts at its edge, holds less than was asked for.
    tails = _smallest_tail(counts, number, probabilities)
    kept = tails[((counts >= low) & (counts <= high)).all(axis=1)].min()
    assert (tails > kept * (1 + 1e-9)).mean() < 0.9


@pytest.mark.statistical
def test_uniform_ranks_stay_in_the_band_as_often_as_it_says():
    rng = np.random.default_rng(3)
    number, num_draws, repeats = 150, 99, 4_000
    cuts = thresholds(num_draws)
    counts = np.array(
        [np.searchsorted(np.sort(row), cuts) for row in rng.integers(0, num_draws + 1, (repeats, number))]
    )
    low, high = ecdf_band(number, cuts / (num_draws + 1.0), probability=0.9)
    inside = ((counts >= low) & (counts <= high)).all(axis=1).mean()
    assert abs(inside - 0.9) < 4.0 * np.sqrt(0.09 / repeats) + 0.01  # 0.01: counts are discrete


def test_far_away_is_ordered():
    cuts = np.array([10, 50, 90])
    counts = np.array([[200, 200, 200], [150, 190, 200]])
    first, second = ecdf_p_values(counts, 200, cuts / 100)
    assert 0.0 <= first < second < 1e-12


def test_thresholds_are_at_most_so_many():
    assert thresholds(7).tolist() == [1, 2, 3, 4, 5, 6, 7]
    found = thresholds(999)
    assert len(found) == 100
    assert (found[0], found[-1]) == (1, 999)
