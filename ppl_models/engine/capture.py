"""Capture a program's log density and gradient as one graph of tensor operations."""

import torch
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from ppl_models.engine.protocol import CaptureError
from ppl_models.errors import first_line
from ppl_models.program import Program

MAX_NODES = 4_000
"""Larger graphs (unrolled loops) would take minutes to compile."""


def capture_gradient(program: Program, example: torch.Tensor) -> GraphModule:
    """Trace value and gradient of the log density to ATen operations.

    Args:
        program: the model with its data; the data become constants of the graph.
        example: an unconstrained vector of shape (dim,) at which to trace.

    Raises:
        CaptureError: the model's Python depends on values of its latents, or the graph is too large.
    """

    def gradient_and_value(flat: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.func.grad_and_value(program.log_density)(flat)

    try:
        with torch.no_grad():  # the model's own parameters are constants here; torch.func.grad is not concerned
            graph = make_fx(gradient_and_value)(example)
    except Exception as error:
        # Any operation may refuse to be traced, each in its own way; eager runs them all.
        raise CaptureError(f"capture failed: {type(error).__name__}: {first_line(error)}") from error
    num_nodes = len(graph.graph.nodes)
    if num_nodes > MAX_NODES:
        raise CaptureError(
            f"the captured graph has {num_nodes} operations, more than {MAX_NODES}; vectorise the model's Python loops"
        )
    return graph
