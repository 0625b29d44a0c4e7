"""Write sums of products as matrix products: inductor compiles the former to loops without blocking, 10 times slower.

A Pyro model that broadcasts over particles says `(x * weights).sum(-1)`, and `vmap` of a matrix product says much the
same; for 64 particles that is a matrix product, and BLAS has it. So is a matrix times a vector, unless it is small.
Triangular solves of many vectors with one matrix become one solve.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.fx import Graph, GraphModule, Node

aten = torch.ops.aten
MIN_MULTIPLICATIONS = 4_096
"""Smaller products are quicker inside a fused kernel than by a call."""


def use_matrix_products(module: GraphModule) -> None:
    """Rewrite a traced graph in place; its nodes have `shape`, `stride` and `dtype` in their `meta`."""
    for node in list(module.graph.nodes):
        if node.target is aten.mv.default and math.prod(_shape(node.args[0])) >= MIN_MULTIPLICATIONS:
            _rewrite_vector(module.graph, node)
        elif node.target is aten.mm.default and _multiplications(node) < MIN_MULTIPLICATIONS:
            _write_out(module.graph, node)
        elif node.target is aten.sum.dim_IntList and (product := _contraction(node)) is not None:
            _rewrite_sum(module.graph, node, product)
        elif node.target is aten.linalg_solve_triangular.default and _has_one_matrix(node):
            _rewrite_solve(module.graph, node)
    module.graph.eliminate_dead_code()
    module.recompile()


@dataclass(frozen=True)
class Contraction:
    """A sum over some axes of the product of two broadcast tensors.

    Attributes:
        left, right: the factors.
        shape: shape of the product before the sum.
        batch, rows, columns, summed: axes in both factors, only in the left, only in the right, and summed over.
    """

    left: Node
    right: Node
    shape: tuple[int, ...]
    batch: tuple[int, ...]
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    summed: tuple[int, ...]


def _contraction(node: Node) -> Contraction | None:
    product, axes = node.args[0], node.args[1]
    if not isinstance(product, Node) or product.target is not aten.mul.Tensor or len(product.users) > 1 or not axes:
        return None
    left, right = product.args
    if not (isinstance(left, Node) and isinstance(right, Node) and _dtype(left) == _dtype(right) == _dtype(node)):
        return None
    shape = _shape(product)
    if not _dtype(node).is_floating_point or math.prod(shape) < MIN_MULTIPLICATIONS:
        return None
    summed = tuple(sorted(axis % len(shape) for axis in axes))  # pyright: ignore
    here = [axis for axis in range(len(shape)) if shape[axis] > 1]
    in_left, in_right = ({axis for axis in here if _has(side, axis, len(shape))} for side in (left, right))
    if not all(axis in in_left and axis in in_right for axis in summed if axis in here):
        return None
    kept = [axis for axis in here if axis not in summed]
    rows = tuple(axis for axis in kept if axis not in in_right)
    columns = tuple(axis for axis in kept if axis not in in_left)
    batch = tuple(axis for axis in kept if axis in in_left and axis in in_right)
    if not (rows or columns) or (batch and not (rows and columns)):
        return None
    return Contraction(left, right, shape, batch, rows, columns, tuple(axis for axis in summed if axis in here))


def _has(node: Node, axis: int, num_axes: int) -> bool:
    """Whether a factor varies along an axis of the product."""
    own = axis - (num_axes - len(_shape(node)))
    return own >= 0 and _shape(node)[own] > 1 and node.meta["stride"][own] != 0


def _rewrite_sum(graph: Graph, node: Node, found: Contraction) -> None:
    sizes = [math.prod(found.shape[axis] for axis in axes) for axes in (found.batch, found.rows, found.columns)]
    num_summed = math.prod(found.shape[axis] for axis in found.summed)
    with graph.inserting_before(node):
        left = _matrix(graph, found, found.left, (found.batch, found.rows, found.summed))
        right = _matrix(graph, found, found.right, (found.batch, found.summed, found.columns))
        batch, rows, columns = sizes
        if found.batch:
            left = graph.call_function(aten.reshape.default, (left, [batch, rows, num_summed]))
            right = graph.call_function(aten.reshape.default, (right, [batch, num_summed, columns]))
            product = graph.call_function(aten.bmm.default, (left, right))
        else:
            left = graph.call_function(aten.reshape.default, (left, [rows, num_summed]))
            right = graph.call_function(aten.reshape.default, (right, [num_summed, columns]))
            product = graph.call_function(aten.mm.default, (left, right))
        order = (*found.batch, *found.rows, *found.columns)
        apart = graph.call_function(aten.reshape.default, (product, [found.shape[axis] for axis in order]))
        placed = graph.call_function(aten.permute.default, (apart, [order.index(axis) for axis in sorted(order)]))
        _replace(graph, node, graph.call_function(aten.reshape.default, (placed, list(_shape(node)))))


def _matrix(graph: Graph, found: Contraction, node: Node, groups: Sequence[Sequence[int]]) -> Node:
    """A factor without the axes along which it does not vary, in the order of the groups."""
    offset = len(found.shape) - len(_shape(node))
    wanted = [axis for group in groups for axis in group]
    present = list(range(offset, len(found.shape)))
    for axis in reversed(present):
        if axis not in wanted:
            node = graph.call_function(aten.select.int, (node, present.index(axis), 0))
            present.remove(axis)
    return graph.call_function(aten.permute.default, (node, [present.index(axis) for axis in wanted]))


def _rewrite_vector(graph: Graph, node: Node) -> None:
    matrix, vector = node.args
    with graph.inserting_before(node):
        column = graph.call_function(aten.unsqueeze.default, (vector, 1))
        product = graph.call_function(aten.mm.default, (matrix, column))
        _replace(graph, node, graph.call_function(aten.squeeze.dim, (product, 1)))


def _has_one_matrix(node: Node) -> bool:
    matrix, right = node.args
    shared = math.prod(_shape(matrix)[:-2]) == 1 and math.prod(_shape(right)[:-2]) > 1  # pyright: ignore
    return shared and node.kwargs.get("left", True) is True


def _rewrite_solve(graph: Graph, node: Node) -> None:
    """One solve with many columns in place of many solves with one matrix, which torch would copy for each."""
    matrix, right = node.args
    assert isinstance(matrix, Node)
    assert isinstance(right, Node)
    *batch, size, columns = _shape(right)
    last = len(batch) + 1
    with graph.inserting_before(node):
        for _ in _shape(matrix)[:-2]:
            matrix = graph.call_function(aten.select.int, (matrix, 0, 0))
        front = graph.call_function(aten.permute.default, (right, [last - 1, *range(last - 1), last]))
        flat = graph.call_function(aten.reshape.default, (front, [size, math.prod(batch) * columns]))
        solved = graph.call_function(node.target, (matrix, flat), dict(node.kwargs))  # pyright: ignore
        apart = graph.call_function(aten.reshape.default, (solved, [size, *batch, columns]))
        _replace(graph, node, graph.call_function(aten.permute.default, (apart, [*range(1, last), 0, last])))


def _multiplications(node: Node) -> int:
    left, right = (one if isinstance(one, Node) else node for one in node.args)
    return math.prod(_shape(left)) * _shape(right)[1]


def _write_out(graph: Graph, node: Node) -> None:
    """A small matrix product as a sum of products, which goes into the kernel around it."""
    left, right = node.args
    with graph.inserting_before(node):
        rows = graph.call_function(aten.unsqueeze.default, (left, 2))
        columns = graph.call_function(aten.unsqueeze.default, (right, 0))
        product = graph.call_function(aten.mul.Tensor, (rows, columns))
        _replace(graph, node, graph.call_function(aten.sum.dim_IntList, (product, [1])))


def _replace(graph: Graph, node: Node, by: Node) -> None:
    by.meta.update(node.meta)
    node.replace_all_uses_with(by)
    graph.erase_node(node)


def _shape(node: Node) -> tuple[int, ...]:
    return node.meta["shape"]


def _dtype(node: Node) -> torch.dtype:
    return node.meta["dtype"]
