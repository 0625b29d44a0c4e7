import numpy as np
import pytest

from ppl_models.diagnostics.generated import check_generated
from ppl_models.errors import DataError


def rows(seed, number, shift=0.0):
    return shift + np.random.default_rng(seed).normal(size=(number, 10)) * 3.0


def test_same_rows_pass_and_shifted_ones_fail():
    data = rows(1, 1_000)
    assert check_generated(rows(2, 1_000), data).passed is True
    check = check_generated(rows(2, 1_000, shift=1.5), data)
    assert check.passed is False
    assert check.value == pytest.approx(0.5, abs=0.1)


def test_noise_is_no_error():
    values = [check_generated(rows(seed, 30), rows(seed + 100, 30)).value for seed in range(50)]
    assert np.mean(values) < 0.15
    assert not any(check_generated(rows(s, 30), rows(s + 100, 30)).passed is False for s in range(50))


def test_what_cannot_be_measured_is_no_pass():
    assert check_generated(rows(1, 10), np.zeros((10, 10))).passed is None
    assert check_generated(np.full((10, 10), np.nan), rows(1, 10)).passed is None
    with pytest.raises(DataError, match="needs"):
        check_generated(np.zeros((3, 2)), np.zeros((3, 1)))
