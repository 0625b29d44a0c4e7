"""Where chains start: points at which the log density and its gradient are finite."""

import numpy as np
import pyro
import pyro.poutine as poutine
import torch

from ppl_models.engine import CompiledDensity
from ppl_models.errors import ModelError, first_line
from ppl_models.program import Program
from ppl_models.program.handlers import FromUnconstrained
from ppl_models.program.nodes import nodes_of

NUM_TRIES = 100


def start_point(density: CompiledDensity, seed: int, starts: np.ndarray | None = None) -> np.ndarray:
    """A finite start for one chain, shape (dim,): one of those given, uniform on (-2, 2), else a prior draw.

    Raises:
        ModelError: no try gave a finite log density; the message names the sites at fault.
    """
    rng = np.random.default_rng(seed)
    flat = np.zeros(density.program.num_dims)
    for _ in range(NUM_TRIES if starts is not None else 0):
        flat = np.array(starts[rng.integers(len(starts))]) if starts is not None else flat
        if _finite(density, flat):
            return flat
    for _ in range(NUM_TRIES):
        flat = rng.uniform(-2.0, 2.0, density.program.num_dims)
        if _finite(density, flat):
            return flat
    for index in range(NUM_TRIES):
        pyro.set_rng_seed((seed + index) % 2**31)
        flat = density.program.prior_draw().detach().numpy().astype(np.float64)
        if _finite(density, flat):
            return flat
    raise ModelError(
        f"no start found: the log density was not finite at {2 * NUM_TRIES} points. At the last one, not finite: "
        f"{_culprits(density.program, flat)}. Check the data's scale against the likelihood, and the supports."
    )


def _finite(density: CompiledDensity, flat: np.ndarray) -> bool:
    try:
        value, gradient = density(flat)
    except (RuntimeError, ValueError, ArithmeticError):
        # A failed Cholesky or a parameter out of range: simply no place to start from.
        return False
    return bool(np.isfinite(value) and np.isfinite(gradient).all())


def _culprits(program: Program, flat: np.ndarray) -> str:
    handler = FromUnconstrained(torch.as_tensor(flat, dtype=program.dtype), program.slices)
    try:
        with handler:
            trace = poutine.trace(program.model).get_trace(*program.arguments.args, **program.arguments.kwargs)
        trace.compute_log_prob()
    except (RuntimeError, ValueError, ArithmeticError) as error:
        return f"the model itself ({first_line(error)})"
    names = [
        name
        for name, node in nodes_of(trace).items()
        if node["type"] == "sample" and not bool(torch.isfinite(node["log_prob_sum"]))
    ]
    return ", ".join(f"site '{name}'" for name in names) or "the gradient"
