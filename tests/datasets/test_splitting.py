"""Splits keep every class's share and never move; binarised pixels are drawn once."""

import numpy as np
import pytest

from ppl_models import datasets
from ppl_models.errors import DataError, OptionError


def test_parts_divide_the_rows_and_every_class():
    labels = np.repeat(np.arange(4), [100, 50, 30, 7])
    parts = datasets.split(labels, validation=0.1, test=0.2, seed=3)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))
    for part, share in zip(parts, (0.7, 0.1, 0.2), strict=True):
        assert (np.diff(part) > 0).all()
        assert (np.abs(np.bincount(labels[part], minlength=4) - share * np.bincount(labels)) <= 1.0).all()


def test_the_same_seed_gives_the_same_parts():
    first, again, other = (datasets.split(1000, seed=seed) for seed in (1, 1, 2))
    assert all((one == two).all() for one, two in zip(first, again, strict=True))
    assert not (first.test == other.test).all()
    assert [len(part) for part in first] == [700, 100, 200]


@pytest.mark.parametrize("shares", [{"validation": -0.1}, {"test": 1.0}, {"validation": 0.5, "test": 0.5}])
def test_shares_that_leave_nothing_are_refused(shares):
    with pytest.raises(OptionError, match=r"split: validation is"):
        datasets.split(10, **shares)


@pytest.mark.parametrize("labels", [0, np.zeros((3, 2)), []])
def test_labels_must_be_one_for_each_row(labels):
    with pytest.raises(DataError, match=r"split: labels have shape"):
        datasets.split(labels)


def test_binarised_pixels_follow_their_levels():
    """100,000 draws of each level: 5 standard errors are 0.008 at most."""
    levels = np.repeat(np.array([[0.0], [64.0], [128.0], [255.0]]), 100_000, axis=1)
    drawn = datasets.binarised(levels, seed=1)
    assert set(np.unique(drawn)) == {0.0, 1.0}
    np.testing.assert_allclose(drawn.mean(axis=1), levels[:, 0] / 255.0, atol=0.008)
    assert (drawn == datasets.binarised(levels, seed=1)).all()
    assert not (drawn == datasets.binarised(levels, seed=2)).all()
    assert datasets.binarised([0.0, 7.9, 8.0, 16.0], seed=None).tolist() == [0.0, 0.0, 1.0, 1.0]


@pytest.mark.parametrize("pixels", [[], [0.0, 0.0], [-1.0, 2.0], [np.nan, 1.0]])
def test_what_are_no_grey_levels_is_refused(pixels):
    with pytest.raises(DataError, match=r"binarised: the pixels are"):
        datasets.binarised(pixels)
