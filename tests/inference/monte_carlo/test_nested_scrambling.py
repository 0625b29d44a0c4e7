import numpy as np
import torch
from torch.quasirandom import SobolEngine

from ppl_models.inference.monte_carlo.nested_scrambling import BITS, reversed_bits, scrambled

KEYS = np.random.default_rng(1).integers(0, 2**BITS, (200, 2), dtype=np.uint32)
POINTS = SobolEngine(2).draw(64, dtype=torch.float64).numpy()
BACKWARDS = reversed_bits((POINTS * 2.0**BITS).astype(np.uint32))


def test_bits_are_reversed():
    numbers = np.array([1, 0b1011, 2**31], dtype=np.uint32)
    np.testing.assert_array_equal(reversed_bits(numbers), np.array([2**31, 0b1101 << 28, 1], dtype=np.uint32))
    np.testing.assert_array_equal(reversed_bits(reversed_bits(BACKWARDS)), BACKWARDS)


def test_every_scrambling_of_a_net_is_a_net():
    for keys in KEYS:
        points = scrambled(BACKWARDS, keys)
        assert ((points > 0.0) & (points < 1.0)).all()
        for log_rows in range(7):  # every elementary box of volume 1/64 holds one point
            box = np.floor(points[:, 0] * 2**log_rows) * 2 ** (6 - log_rows) + np.floor(
                points[:, 1] * 2 ** (6 - log_rows)
            )
            assert len(np.unique(box)) == 64


def test_a_bit_depends_on_the_higher_ones_alone():
    (low, high) = (reversed_bits(np.array([[number]], dtype=np.uint32)) for number in (0x12345678, 0x12345679))
    for keys in KEYS[:, :1]:
        assert abs(scrambled(low, keys) - scrambled(high, keys)) < 2.0 ** -(BITS - 1) + 1e-12


def test_each_point_is_uniform_over_the_keys():
    keys = np.random.default_rng(2).integers(0, 2**BITS, 40_000, dtype=np.uint32)
    for backwards in BACKWARDS[[0, 1, 37], 0]:
        points = np.array([backwards], dtype=np.uint32) ^ np.zeros(1, np.uint32)
        found = scrambled(np.broadcast_to(points, keys.shape), keys)
        counts, _ = np.histogram(found, 64, (0.0, 1.0))
        assert (np.square(counts - 625.0) / 625.0).sum() < 110.0  # chi-squared with 63 degrees of freedom, 1e-4
        # the order within halves is random too: bits of different rank are independent
        bits = np.floor(found[:, None] * [2.0, 4.0, 8.0]) % 2
        correlation = np.corrcoef(bits.T) - np.eye(3)
        assert np.abs(correlation).max() < 4.5 / np.sqrt(len(keys))
