import numpy as np
import pytest
import torch
from scipy import stats

from ppl_models.inference.monte_carlo.moments import Moments, merged


@pytest.mark.parametrize("shape", [(), (3,), (2, 2)])
def test_chunks_give_the_moments_of_all_values(shape):
    values = np.random.default_rng(1).gamma(2.0, size=(5_000, *shape)) + 1e4
    moments, parts = Moments(), [Moments(), Moments()]
    for place, chunk in enumerate(np.split(values, [1, 700, 701, 3_000])):
        moments.add(torch.as_tensor(chunk))
        parts[place % 2].add(torch.as_tensor(chunk))
    for found in (moments, merged(parts)):
        assert found.count == len(values)
        np.testing.assert_allclose(found.mean, values.mean(0), rtol=1e-12)
        np.testing.assert_allclose(found.variance, values.var(0, ddof=1), rtol=1e-10)
        np.testing.assert_allclose(found.third, ((values - values.mean(0)) ** 3).sum(0), rtol=1e-7)


def test_single_precision_values_are_summed_in_double():
    moments = Moments()
    for _ in range(50):
        moments.add(torch.full((1_000,), 0.1, dtype=torch.float32))
    np.testing.assert_allclose(moments.mean, float(np.float32(0.1)), rtol=1e-14)


def test_too_few_draws_for_the_skewness_fail_the_check():
    values = torch.as_tensor(np.random.default_rng(2).exponential(size=2_000))
    few, many = Moments(), Moments()
    few.add(values[:40])
    many.add(values)
    (few,), (many,) = few.checks(), many.checks()
    assert few.passed is False
    assert many.passed is True
    np.testing.assert_allclose(many.value, stats.skew(values.numpy()) / np.sqrt(2_000), rtol=1e-10)


def test_values_that_are_equal_have_no_skewness():
    moments = Moments()
    moments.add(torch.full((100,), 0.3))
    assert moments.checks() == ()
