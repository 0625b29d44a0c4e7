"""The sites of a Pyro trace as plain mappings, and sums of their terms."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pyro.distributions import Delta
from pyro.distributions.util import scale_and_mask
from pyro.poutine.trace_struct import Trace
from pyro.poutine.util import site_is_subsample
from torch.distributions import Independent


def nodes_of(trace: Trace) -> Mapping[str, Any]:
    """Every site of a trace by name. Pyro types each entry of a site as optional; in a finished trace none is."""
    return trace.nodes


def sites_of(trace: Trace) -> dict[str, Any]:
    """The sites that have a density, by name."""
    return {
        name: node
        for name, node in nodes_of(trace).items()
        if node["type"] == "sample" and not site_is_subsample(node) and not node["infer"].get("_deterministic")
    }


def is_point(fn: Any) -> bool:
    """Whether a distribution is a point mass."""
    while isinstance(fn, Independent):
        fn = fn.base_dist
    return isinstance(fn, Delta)


def summed(node: Any, values: torch.Tensor, axes: Sequence[int], *, scaled: bool = True) -> torch.Tensor:
    """Terms of a site, masked, summed over all axes but these.

    Args:
        node: the site.
        values: one term for each element of its batch.
        axes: counted from the right of batch shapes; they come in this order.
        scaled: whether terms count by the site's scale.
    """
    values = scale_and_mask(values, scale=node["scale"] if scaled else 1.0, mask=node["mask"])
    sizes = {frame.dim: frame.size for frame in node["cond_indep_stack"] if frame.vectorized}
    batch = [sizes.get(axis, 1) for axis in range(min(sizes, default=0), 0)]
    values = values.expand(torch.broadcast_shapes(values.shape, node["fn"].batch_shape, batch))
    others = [axis for axis in range(-values.dim(), 0) if axis not in axes]
    total = values.sum(others, keepdim=True) if others else values
    return total.reshape([values.shape[axis] for axis in axes])
