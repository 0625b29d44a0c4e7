"""Ranks are uniform for draws from the truth's own distribution, with ties and without."""

import numpy as np
import pytest

from ppl_models.diagnostics import ranks_among
from ppl_models.diagnostics.calibration import sbc_p_values
from ppl_models.errors import DataError

NUM_DRAWS, NUM_SIMULATIONS = 19, 400


def test_counts_what_is_below():
    truth, draws = np.array([0.5, -1.0, 9.0]), np.arange(4.0)[:, None] * np.ones(3)
    assert ranks_among(truth, draws, seed=0).tolist() == [1, 0, 4]


def test_infinite_values_have_their_place():
    draws = np.array([-np.inf, 0.0, np.inf])
    assert ranks_among(np.array(1.0), draws, seed=0) == 2
    assert ranks_among(np.array(np.inf), np.zeros(3), seed=0) == 3


@pytest.mark.parametrize("make", ["binary", "poisson", "constant", "rounding"])
def test_ties_are_broken_evenly(make):
    rng = np.random.default_rng(1)
    makers = {
        "binary": lambda size: rng.integers(0, 2, size),
        "poisson": lambda size: rng.poisson(1.5, size),
        "constant": lambda size: np.full(size, 3.0),
        "rounding": lambda size: 1.0 - 1e-16 * rng.integers(0, 2, size),
    }
    ranks = np.array(
        [
            ranks_among(np.asarray(makers[make]((1,))), np.asarray(makers[make]((NUM_DRAWS, 1))), seed=seed)
            for seed in range(NUM_SIMULATIONS)
        ]
    )
    assert sbc_p_values(ranks, NUM_DRAWS)[0] > 0.001


def test_ties_that_are_not_broken_would_be_seen():
    rng = np.random.default_rng(1)
    truth, draws = rng.integers(0, 2, NUM_SIMULATIONS), rng.integers(0, 2, (NUM_DRAWS, NUM_SIMULATIONS))
    assert sbc_p_values((draws < truth).sum(axis=0)[:, None], NUM_DRAWS)[0] < 1e-6


def test_the_same_seed_breaks_ties_the_same_way():
    truth, draws = np.zeros(50), np.zeros((9, 50))
    first, again = (ranks_among(truth, draws, seed=4) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert len(set(first.tolist())) > 3


@pytest.mark.parametrize(
    ("truth", "draws", "said"),
    [
        (np.zeros(2), np.zeros((5, 3)), "shape"),
        (np.zeros(2), np.zeros((0, 2)), "at least one draw"),
        (np.zeros(2), np.full((5, 2), np.nan), "NaN"),
        (np.array([np.nan, 0.0]), np.zeros((5, 2)), "NaN"),
    ],
)
def test_refuses_what_has_no_rank(truth, draws, said):
    with pytest.raises(DataError, match=said):
        ranks_among(truth, draws, seed=0)
