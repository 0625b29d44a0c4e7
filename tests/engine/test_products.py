"""Sums of products that become matrix products, and small matrix products that become sums."""

import pytest
import torch

from ppl_models.engine.products import MIN_MULTIPLICATIONS, use_matrix_products
from ppl_models.engine.tracing import trace

aten = torch.ops.aten


def targets(module):
    return [node.target for node in module.graph.nodes if node.op == "call_function"]


def rewritten(function, *inputs):
    module, constants, _ = trace(lambda *values: (function(*values),), lambda: inputs)
    wanted = function(*inputs)
    use_matrix_products(module)
    (found,) = module(*inputs, *constants)
    assert found.shape == wanted.shape
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    return targets(module)


def randn(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


BROADCAST = {
    "rows and particles": (lambda x, w: (x * w[:, None]).sum(-1), (100, 20), (16, 20)),
    "particles first": (lambda x, w: (w[:, None] * x).sum(-1), (100, 20), (16, 20)),
    "rows first": (lambda x, w: (x[:, None] * w).sum(-1), (100, 20), (16, 20)),
    "two summed axes": (lambda x, w: (x * w[:, None]).sum((-1, -2)), (100, 20, 3), (16, 20, 3)),
    "summed axis kept": (lambda x, w: (x * w[:, None]).sum(-1, keepdim=True), (100, 20), (16, 20)),
    "summed in front": (lambda x, w: (x[:, :, None] * w[:, None]).sum(0), (20, 100), (20, 16)),
    "expanded": (lambda x, w: (x.expand(16, 100, 20) * w[:, None].expand(16, 100, 20)).sum(2), (100, 20), (16, 20)),
    "a batch": (lambda x, w: (x[:, :, None] * w[:, None]).sum(-1), (4, 50, 20), (4, 16, 20)),
    "a vector": (lambda x, w: (x * w).sum(-1), (300, 20), (20,)),
    "the gradient of one": (lambda r, x: (r[..., None] * x).sum(1), (16, 100), (100, 20)),
}


@pytest.mark.parametrize("name", BROADCAST)
def test_sum_of_a_broadcast_product_becomes_a_matrix_product(name):
    function, first, second = BROADCAST[name]
    found = rewritten(function, randn(*first), randn(*second))
    assert aten.mm.default in found or aten.bmm.default in found
    assert aten.mul.Tensor not in found


OTHERS = {
    "same axes": (lambda x, w: (x * w).sum(-1), (200, 40), (200, 40)),
    "an axis of one factor alone is summed": (lambda x, w: (x[None] * w[:, None, None]).sum(1), (100, 20), (16,)),
    "small": (lambda x, w: (x * w[:, None]).sum(-1), (8, 4), (16, 4)),
    "whole numbers": (lambda x, w: ((x * 100).long() * (w[:, None] * 100).long()).sum(-1), (100, 20), (16, 20)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_sums_stay(name):
    function, first, second = OTHERS[name]
    found = rewritten(function, randn(*first), randn(*second))
    assert not {aten.mm.default, aten.bmm.default} & set(found)


def test_product_that_is_used_twice_stays():
    def function(x, w):
        product = x * w[:, None]
        return product.sum(-1) + product.sum(1).sum(-1, keepdim=True)

    assert aten.mul.Tensor in rewritten(function, randn(100, 20), randn(16, 20))


def test_large_matrix_times_vector_becomes_a_matrix_product():
    size = MIN_MULTIPLICATIONS // 10 + 1
    assert aten.mm.default in rewritten(lambda x, v: x @ v, randn(size, 10), randn(10))
    assert aten.mv.default in rewritten(lambda x, v: x @ v, randn(8, 3), randn(3))


def test_small_matrix_product_becomes_a_sum():
    assert aten.mm.default not in rewritten(lambda x, y: x @ y, randn(5, 4), randn(4, 3))
    assert aten.mm.default in rewritten(lambda x, y: x @ y, randn(50, 40), randn(40, 30))


def test_gradient_of_a_broadcast_product_is_a_matrix_product_too():
    def function(x, w):
        return torch.func.grad(lambda v: torch.sin((x * v[:, None]).sum(-1)).sum())(w)

    found = rewritten(function, randn(100, 20), randn(16, 20))
    assert found.count(aten.mm.default) == 2


SOLVES = {
    "vectors": (lambda a, b: torch.linalg.solve_triangular(a.tril(), b[..., None], upper=False), (5, 5), (7, 5)),
    "with an axis in front": (
        lambda a, b: torch.linalg.solve_triangular(a.triu()[None], b, upper=True),
        (5, 5),
        (7, 5, 2),
    ),
    "two axes": (lambda a, b: torch.linalg.solve_triangular(a.tril().mT, b, upper=True), (4, 4), (3, 2, 4, 1)),
}


@pytest.mark.parametrize("name", SOLVES)
def test_solves_with_one_matrix_become_one(name):
    function, first, second = SOLVES[name]
    matrix = randn(*first) + 10.0 * torch.eye(first[0], dtype=torch.float64)
    found = rewritten(function, matrix, randn(*second))
    solve = found.index(aten.linalg_solve_triangular.default)
    assert found[solve - 1] is aten.view.default or found[solve - 1] is aten.reshape.default


def test_solves_with_a_matrix_each_stay():
    def function(a, b):
        return torch.linalg.solve_triangular(a.tril(), b, upper=False)

    matrices = randn(3, 4, 4) + 10.0 * torch.eye(4, dtype=torch.float64)
    assert rewritten(function, matrices, randn(3, 4, 1)) == [aten.tril.default, aten.linalg_solve_triangular.default]
