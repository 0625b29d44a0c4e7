"""Calls in blocks of few sizes: the same answers, the same count of evaluations."""

import numpy as np
import pytest
import torch

from ppl_models.inference.methods.few_sizes import FewSizes, in_few_sizes
from tests.inference.methods.doubles import Double


class Watched(Double):
    def __init__(self):
        super().__init__(lambda x: -0.5 * x.square().sum(1) + torch.sin(x[:, 0]), 3)
        self.sizes = set()

    def __call__(self, points):
        self.sizes.add(len(points))
        return super().__call__(points)


@pytest.mark.parametrize("count", [1, 4, 5, 9, 10, 11, 20, 37])
def test_blocks_change_nothing_but_the_sizes(count):
    watched, plain = Watched(), Watched()
    blocks = FewSizes(watched, 4, 20)
    points = np.random.default_rng(count).standard_normal((count, 3))
    for ours, theirs in zip(blocks(points), plain(points), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    assert watched.sizes <= {4, 20}
    assert blocks.evaluations == count
    np.testing.assert_allclose(blocks.hessian(points[0]), plain.hessian(points[0]), rtol=1e-12)


def test_only_traced_targets_need_blocks():
    target = Watched()
    assert in_few_sizes(target, 4, 20) is target
    target.backend = "traced"
    assert isinstance(in_few_sizes(target, 4, 20), FewSizes)
