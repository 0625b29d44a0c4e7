import numpy as np
import pytest
import torch
from scipy import stats

from ppl_models.inference.monte_carlo.moments import Moments, merged, skewness_of_mean


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
        for order in range(2, 7):
            wanted = ((values - values.mean(0)) ** order).sum(0)
            np.testing.assert_allclose(found.sums[order - 2], wanted, rtol=1e-7)


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
    assert few.passed is not True
    assert many.passed is True
    np.testing.assert_allclose(many.value, stats.skew(values.numpy()) / np.sqrt(2_000), rtol=1e-10)


def test_values_that_are_equal_have_no_skewness():
    moments = Moments()
    moments.add(torch.full((100,), 0.3))
    assert moments.checks() == ()


@pytest.mark.parametrize("num_cells", [1, 3])
def test_the_error_of_a_skewness_is_that_of_repeats(num_cells):
    """Gamma values of shape 4: 6 / n (1 + 3/2 g² + 5/16 g⁴) in one cell, with g² = 1, Bobée and Robitaille (1975)."""
    values = np.random.default_rng(3).gamma(4.0, size=(2_000, num_cells, 1_000))
    rest = values - values.mean(0)
    central, power = [], rest
    for _ in range(5):
        power = power * rest
        central.append(power.mean(0))
    found, error = skewness_of_mean(np.full(num_cells, 2_000), np.array(central))
    # the error of a standard deviation of 1,000 repeats is some 2.5 %; that of the stated error falls with 1 / n
    assert np.sqrt(np.square(error).mean()) == pytest.approx(found.std(), rel=0.1)
    if num_cells == 1:
        # of the mean of n values: the skewness of the values over √n
        assert found.std() * np.sqrt(2_000) == pytest.approx(np.sqrt(6.0 / 2_000 * (1.0 + 1.5 + 5.0 / 16.0)), rel=0.1)


def test_a_tail_that_was_missed_does_not_pass():
    """Of exp(z) the skewness of 200 values cannot be seen: intervals of those that looked well cover 86 %."""
    generator = torch.Generator().manual_seed(4)
    for count, passes in ((200, 0.0), (1_000, 0.75)):
        found = []
        for _ in range(200):
            moments = Moments()
            moments.add(torch.exp(torch.randn(count, generator=generator, dtype=torch.float64)))
            found.append(moments.checks()[0].passed is True)
        assert np.mean(found) <= passes


def test_the_skewness_passes_only_with_twice_its_error():
    """A share p of ones has skewness (1 - 2p) / √(p (1 - p) n): about 1 / √ones, with an error of half of 1 / ones."""
    for ones, passed in ((20, False), (27, None), (40, True)):
        moments = Moments()
        moments.add(torch.as_tensor(np.arange(10_000) < ones, dtype=torch.float64))
        (check,) = moments.checks()
        assert check.passed is passed
        assert check.value == pytest.approx(ones**-0.5, rel=0.02)
        assert check.mcse == pytest.approx(0.5 / ones, rel=0.02)


def test_values_that_depend_on_each_other_are_worth_fewer():
    moments = Moments()
    moments.add(torch.as_tensor(np.random.default_rng(2).exponential(size=2_000)))
    (free,), (bound,) = moments.checks(), moments.checks(effective=np.array(20.0))
    np.testing.assert_allclose([bound.value, bound.mcse], [10.0 * free.value, 10.0 * free.mcse], rtol=1e-12)
    assert bound.passed is False


def test_moments_beyond_the_range_of_numbers_do_not_pass():
    moments = Moments()
    moments.add(1e-60 * torch.as_tensor(np.random.default_rng(6).normal(size=2_000)))
    assert moments.checks()[0].passed is None
