import math

import numpy as np
import pytest

from ppl_models.diagnostics import khat_replicates, pareto_khat
from ppl_models.errors import DataError


def test_values_are_those_of_each_replicate_and_of_all():
    ratios = np.random.default_rng(1).exponential(0.5, (6, 1_000))
    found = khat_replicates(ratios)
    np.testing.assert_allclose(found.khats, [pareto_khat(ratio) for ratio in ratios], rtol=1e-10)
    assert found.khat == pytest.approx(pareto_khat(ratios.reshape(-1)), rel=1e-10)
    assert found.error == pytest.approx(found.khats.std(ddof=1) / math.sqrt(6))


@pytest.mark.statistical
def test_spread_is_that_of_the_fit():
    """An exact Pareto tail: sd (1 + k) / sqrt(M), shrunk by the prior; of 400 replicates known to 1 / sqrt(800)."""
    found = khat_replicates(np.random.default_rng(2).exponential(0.4, (400, 4_000)))
    num_tail = 189
    expected = 1.4 / math.sqrt(num_tail) * num_tail / (num_tail + 10)
    finite_tail = 1.5 / num_tail**0.5  # the next order of the variance
    assert abs(found.spread / expected - 1.0) < 4.0 / math.sqrt(800) + finite_tail


def test_one_replicate_has_no_spread():
    assert math.isnan(khat_replicates(np.random.default_rng(3).normal(size=(1, 500))).spread)


@pytest.mark.parametrize(
    ("ratios", "words"),
    [
        (np.zeros(500), "shape"),
        (np.zeros((0, 500)), "shape"),
        (np.zeros((3, 99)), "99 draws"),
        (np.full((2, 500), -np.inf), "replicate 0"),
        (np.full((2, 500), np.nan), "replicate 0"),
    ],
)
def test_bad_input_is_refused(ratios, words):
    with pytest.raises(DataError, match=words):
        khat_replicates(ratios)
