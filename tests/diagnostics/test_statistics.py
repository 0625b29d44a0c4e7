import numpy as np
import pytest

from ppl_models.diagnostics.statistics import STATISTICS, spread_along, suited

VALUES = np.array([[0.0, 0.0, 1.0, 4.0], [2.0, 2.0, 2.0, 2.0]])


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("mean", [1.25, 2.0]),
        ("sd", [np.std([0, 0, 1, 4], ddof=1), 0.0]),
        ("min", [0.0, 2.0]),
        ("max", [4.0, 2.0]),
        ("median", [0.5, 2.0]),
        ("zeros", [0.5, 0.0]),
        ("runs", [3.0, 1.0]),
        ("autocorrelation", [1.25**2 + 1.25 * 0.25 - 0.25 * 2.75, 0.0]),
    ],
)
def test_known_values(name, wanted):
    found = STATISTICS[name](VALUES)
    if name == "autocorrelation":
        wanted = [wanted[0] / (2 * 1.25**2 + 0.25**2 + 2.75**2), 0.0]
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_one_value_is_enough_for_all():
    for statistic in STATISTICS.values():
        assert np.isfinite(statistic(np.ones((3, 1)))).all()


def test_spread_along_is_the_sd_of_slice_means():
    values = np.random.default_rng(1).normal(size=(5, 3, 4))
    np.testing.assert_allclose(spread_along(0)(values), values.mean(axis=2).std(axis=1, ddof=1))
    np.testing.assert_allclose(spread_along(1)(values), values.mean(axis=1).std(axis=1, ddof=1))


def test_statistics_suit_the_data():
    assert "zeros" in suited(discrete=True, binary=False)
    assert "runs" in suited(discrete=True, binary=True)
    assert "min" in suited(discrete=False, binary=False)
