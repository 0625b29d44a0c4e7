import numpy as np
import pytest
import torch

from ppl_models.inference.monte_carlo.tails import CAPACITY, Tails


def of(values, size=4_096):
    tails = Tails()
    for chunk in torch.as_tensor(values).split(size):
        tails.add(chunk)
    return tails


@pytest.mark.parametrize("shape", [0.2, 0.4, 0.8, 1.2])
@pytest.mark.parametrize("side", [1.0, -1.0])
def test_finds_the_shape_of_a_pareto_tail_on_either_side(shape, side):
    uniform = np.random.default_rng(3).uniform(size=100_000)
    (upper, lower) = of(side * (uniform**-shape - 1.0) / shape).khat()[0]
    found = upper if side > 0 else lower
    # 948 tail draws: the error is (1 + k) / √948, and ten prior draws pull towards a half
    assert abs(found - shape) < 4.0 * (1.0 + shape) / np.sqrt(948) + 0.011 * abs(shape - 0.5)


@pytest.mark.parametrize("size", [50, 1_000, 100_000])
def test_the_reservoir_holds_the_largest_values_whatever_the_chunks(size):
    values = np.random.default_rng(4).normal(size=100_000)
    upper, lower = of(values, size)._sides[0]
    np.testing.assert_array_equal(upper.ordered(CAPACITY), np.sort(values)[-CAPACITY:])
    np.testing.assert_array_equal(-lower.ordered(CAPACITY)[::-1], np.sort(values)[:CAPACITY])
    assert sum(map(len, upper._kept)) <= 2 * CAPACITY


def test_memory_does_not_grow_with_the_draws():
    tails = of(np.arange(300_000.0), 1_000)  # each value is larger than all before
    assert all(sum(map(len, side._kept)) < 2 * CAPACITY + 1_000 for side in tails._sides[0])


@pytest.mark.parametrize("make", ["normal", "uniform", "exponential"])
def test_light_tails_pass(make):
    (check,) = of(getattr(np.random.default_rng(5), make)(size=20_000)).checks()
    assert check.passed is True


def test_a_planted_infinite_variance_fails_and_says_which_output():
    random = np.random.default_rng(6)
    (check,) = of(np.stack([random.normal(size=50_000), -random.pareto(1.2, size=50_000)], 1)).checks()
    assert check.passed is False
    assert check.value > 0.7
    assert "lower tail of output 1" in check.detail


def test_a_shape_between_a_half_and_the_limit_is_left_open():
    (check,) = of(np.random.default_rng(7).pareto(1.0 / 0.6, size=200_000)).checks()
    assert check.passed is None
    assert "infinite" in check.detail


def test_few_draws_and_equal_values_are_no_pass():
    assert of(np.random.default_rng(8).normal(size=50)).checks()[0].passed is None
    (check,) = of(np.zeros(5_000)).checks()
    assert check.passed is None
    assert "all 5,000 values are equal" in check.detail


def test_advice_leaves_the_target_as_it_is():
    (check,) = of(np.random.default_rng(9).pareto(1.2, size=50_000)).checks()
    assert check.advice == "take method='importance' with a heavier proposal, or another f"
